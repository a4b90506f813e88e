//! The embedded TON chain: executor, blocks, store, and a toncenter-style HTTP server.
