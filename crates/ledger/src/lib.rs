//! Tokens, prices, reservations and books: pure arithmetic without I/O.
