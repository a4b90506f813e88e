//! Takes the usage event out of a stream whose caller did not ask for it.
//!
//! Workers always ask the engine for usage, because it is what is billed. A caller that did not set
//! `stream_options.include_usage` must not see the extra event: programs written for OpenAI index `choices[0]`.

/// Longest event that is looked at; longer ones pass.
const MAX_EVENT: usize = 256 * 1024;

/// A filter over one event stream.
#[derive(Default)]
pub struct UsageFilter {
    held: Vec<u8>,
}

impl UsageFilter {
    /// Takes a piece, gives back what can go out: whole events, without the usage-only one.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut scanned = self.held.len().saturating_sub(3);
        self.held.extend_from_slice(piece);
        let mut out = Vec::new();
        let mut start = 0;
        while let Some(end) = event_end(&self.held, scanned.max(start)) {
            let event = &self.held[start..end];
            if !is_usage_only(event) {
                out.extend_from_slice(event);
            }
            start = end;
            scanned = end;
        }
        self.held.drain(..start);
        if self.held.len() > MAX_EVENT {
            out.append(&mut self.held);
        }
        out
    }

    /// What is left at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// Position after the empty line that ends an event.
fn event_end(data: &[u8], from: usize) -> Option<usize> {
    (from..data.len()).find_map(|i| {
        if data[i..].starts_with(b"\n\n") {
            Some(i + 2)
        } else if data[i..].starts_with(b"\n\r\n") {
            Some(i + 3)
        } else {
            None
        }
    })
}

fn is_usage_only(event: &[u8]) -> bool {
    let Some(json) = event.strip_prefix(b"data:") else {
        return false;
    };
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(json) else {
        return false;
    };
    value["choices"].as_array().is_some_and(Vec::is_empty) && value["usage"].is_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\\n\\nb\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n: note\r\n\r\ndata: [DONE]\n\n";

    #[test]
    fn only_the_usage_event_goes_whatever_the_pieces() {
        let wanted = "data: {\"choices\":[{\"delta\":{\"content\":\"a\\n\\nb\"}}]}\n\n: note\r\n\r\ndata: [DONE]\n\n";
        for size in 1..STREAM.len() {
            let mut filter = UsageFilter::default();
            let mut out = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                out.extend(filter.push(piece));
            }
            out.extend(filter.finish());
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "pieces of {size}");
        }
    }

    #[test]
    fn events_go_out_as_soon_as_they_are_complete() {
        let mut filter = UsageFilter::default();
        assert!(filter.push(b"data: {\"choices\":[1]}\n").is_empty());
        assert_eq!(filter.push(b"\n"), b"data: {\"choices\":[1]}\n\n");
        assert_eq!(filter.push(b"tail"), b"");
        assert_eq!(filter.finish(), b"tail");
    }
}
