//! The cocoon program: command line, configuration, the local network.
fn main() {}
