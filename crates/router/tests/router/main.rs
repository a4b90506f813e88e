//! The router as its users see it: over loopback sockets, with good and bad peers.

mod bad_input;
mod certificates;
mod closing;
mod configuration;
mod dialogue;
mod floods;
mod openssl;
mod scene;
mod tdx;
mod two_routers;
