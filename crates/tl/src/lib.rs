//! TL encoding: integers, strings, vectors, boxed and bare objects, constructor ids.
