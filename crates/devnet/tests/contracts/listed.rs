//! Tests that can be run on any codes, and are run on what is built.

/// Declares `TESTS`, the list for whoever runs them on mutants, and a test of each on the built contracts.
macro_rules! listed_tests {
    ($($test:ident = $path:path;)*) => {
        /// Every test here.
        pub const TESTS: &[(&str, fn(&crate::codes::Codes) -> Result<(), String>)] =
            &[$((stringify!($test), $path)),*];

        mod built {
            #[allow(unused_imports, reason = "the paths may be absolute")]
            use super::*;

            $(
                #[test]
                fn $test() {
                    if let Err(error) = $path(&crate::codes::Codes::built()) {
                        panic!("{error}");
                    }
                }
            )*
        }
    };
}
