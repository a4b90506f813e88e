//! What a router counts, by port.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// Counters of one port; they only grow, but for `active` and `setting_up`.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)+
        }

        /// The values of [`Counters`] at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        pub struct Snapshot {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// The values now.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        /// The counters of some ports in the text format of Prometheus; the label is the port's number.
        #[must_use]
        pub fn to_prometheus(ports: &[(u16, Snapshot)]) -> String {
            let mut out = String::new();
            $(
                // The ending that counters have by convention.
                let end = if stringify!($kind) == "counter" { "_total" } else { "" };
                let name = format!(concat!("cocoon_router_", stringify!($name), "{}"), end);
                // Writing to a string cannot fail.
                let _ = writeln!(out, "# HELP {name} {}", concat!($($doc),+).trim());
                let _ = writeln!(out, "# TYPE {name} {}", stringify!($kind));
                for (port, values) in ports {
                    let _ = writeln!(out, "{name}{{port=\"{port}\"}} {}", values.$name);
                }
            )+
            out
        }
    };
}

counters! {
    /// Connections accepted by the socket.
    counter accepted,
    /// Connections closed at once because of a limit on their number.
    counter refused_full,
    /// Set-ups going on now.
    gauge setting_up,
    /// Set-ups dropped because younger ones needed the room.
    counter setups_evicted,
    /// SOCKS5 dialogues that failed.
    counter failed_dialogue,
    /// Peers or applications that could not be reached.
    counter failed_dial,
    /// Proofs of work that failed or did not come.
    counter failed_proof_of_work,
    /// TLS handshakes that failed or did not end.
    counter failed_tls,
    /// Peers whose certificate or evidence was refused.
    counter refused_peers,
    /// Set-ups that the application or the peer left, or that the end of the router cut short.
    counter abandoned,
    /// Connections that were established.
    counter established,
    /// Connections open now.
    gauge active,
    /// Bytes from applications to peers.
    counter bytes_to_peers,
    /// Bytes from peers to applications.
    counter bytes_to_applications,
    /// Connections that the application ended.
    counter ended_by_application,
    /// Connections that the peer ended.
    counter ended_by_peer,
    /// Of those, the ones without a close_notify, as the reference does.
    counter truncated,
    /// Connections that broke.
    counter broken,
    /// Connections closed because nothing moved.
    counter closed_idle,
    /// Connections closed because a policy refuses their peer now.
    counter expelled,
    /// Connections closed because the router ended.
    counter stopped,
}

pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts one more until it is dropped.
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    pub(crate) fn raise(counter: &'a AtomicU64) -> Self {
        count(counter);
        Gauge(counter)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_reads_it() {
        let counters = Counters::default();
        count(&counters.accepted);
        {
            let _active = Gauge::raise(&counters.active);
            assert_eq!(counters.snapshot().active, 1);
        }
        let text = to_prometheus(&[(8116, counters.snapshot())]);
        assert!(text.contains(
            "# TYPE cocoon_router_accepted_total counter\ncocoon_router_accepted_total{port=\"8116\"} 1\n"
        ));
        assert!(text.contains("cocoon_router_active{port=\"8116\"} 0\n"));
    }
}
