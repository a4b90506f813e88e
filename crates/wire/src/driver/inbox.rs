//! The bounded queue of events towards the consumer: bounded in number by the channel and in bytes here.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::PeerEvent;

/// The sending side of the event channel, the only one.
pub(super) struct Inbox {
    sender: mpsc::Sender<PeerEvent>,
    /// Sizes of the events last sent, of which the newest are still in the channel.
    sizes: VecDeque<usize>,
    bytes: usize,
    limit: usize,
}

/// The receiver was dropped.
pub(super) struct Abandoned;

impl Inbox {
    pub(super) fn new(sender: mpsc::Sender<PeerEvent>, limit: usize) -> Self {
        Self {
            sender,
            sizes: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Whether an event of this size would be accepted at once.
    pub(super) fn has_room(&mut self, size: usize) -> bool {
        self.forget_taken();
        self.fits(size) && self.sender.capacity() > 0
    }

    /// Waits until [`Inbox::has_room`].
    pub(super) async fn wait_for_room(&mut self, size: usize) -> Result<(), Abandoned> {
        while !self.has_room(size) {
            // One more free place than now means that the consumer took something.
            let one_more = self.sender.capacity() + 1;
            let places = self.sender.reserve_many(one_more).await;
            drop(places.map_err(|_| Abandoned)?);
        }
        Ok(())
    }

    /// Sends an event for which there is room.
    pub(super) fn push(&mut self, event: PeerEvent, size: usize) -> Result<(), Abandoned> {
        self.sender.try_send(event).map_err(|_| Abandoned)?;
        self.sizes.push_back(size);
        self.bytes += size;
        Ok(())
    }

    /// Resolves when the receiver is dropped.
    pub(super) async fn abandoned(&self) {
        self.sender.closed().await;
    }

    /// A single event always fits, however large.
    fn fits(&self, size: usize) -> bool {
        self.bytes == 0 || self.bytes + size <= self.limit
    }

    fn forget_taken(&mut self) {
        let in_channel = self.sender.max_capacity() - self.sender.capacity();
        while self.sizes.len() > in_channel {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }
}
