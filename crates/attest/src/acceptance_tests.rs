//! The acceptance matrix of the specification.
