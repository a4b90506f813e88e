#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cocoon_hostile::snp_report(data);
});
