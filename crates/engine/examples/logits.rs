//! Prints the logits that a model gives after each of some tokens, as JSON; for comparison with other
//! implementations (`tests/parity.py`).
//!
//! `cargo run -p cocoon-engine --example logits -- models/cocoon-tiny 1 85 90`

use candle_core::{Device, Tensor};
use cocoon_engine::decoder::Decoder;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(
        arguments
            .next()
            .ok_or("expected a model directory and token ids")?,
    );
    let ids = arguments
        .map(|a| a.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
    let logits = Decoder::load(&dir)?.forward(&ids)?.to_vec2::<f32>()?;
    println!("{}", serde_json::to_string(&logits)?);
    Ok(())
}
