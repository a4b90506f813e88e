//! Reference values of a GPU's driver and firmware: which measurements a sound one has.
//!
//! NVIDIA publishes them as XML ("reference integrity manifest") with an XML signature. That signature is not checked
//! here: a policy names each manifest by the hash of its file, which whoever writes the policy has checked once with
//! NVIDIA's tools. A manifest with another hash is never used, so this reader sees only texts that somebody vouched for.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::lists::Bytes;

/// Largest manifest read; real ones have some 20 kB.
pub const MAX_RIM_LEN: usize = 1 << 20;
/// Most alternatives of one measurement.
const MAX_ALTERNATIVES: usize = 64;

/// The reference values of one version of a driver or firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rim {
    /// SHA-256 of the file.
    pub sha256: Bytes<32>,
    /// Chip, like `GH100`.
    pub product: String,
    /// Version, like `550.144.03` (driver) or `96.00.5E.00.01` (firmware).
    pub version: String,
    /// Allowed values of each measurement that counts, by index from 0. (A report counts from 1.)
    pub measurements: BTreeMap<u8, Vec<Bytes<48>>>,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the reference manifest cannot be read: {0}")]
pub struct RimError(String);

impl Rim {
    /// Reads a manifest.
    pub fn parse(text: &str) -> Result<Self, RimError> {
        if text.len() > MAX_RIM_LEN {
            return Err(bad("it is too long"));
        }
        let mut meta = None;
        let mut measurements = BTreeMap::new();
        for tag in Tags(text) {
            let tag = tag?;
            match tag.name {
                "Meta" => {
                    let product = tag.required("product")?.to_owned();
                    let version = tag.required("colloquialVersion")?.to_owned();
                    if meta.replace((product, version)).is_some() {
                        return Err(bad("it has two Meta elements"));
                    }
                }
                "Resource" if tag.get("type") == Some("Measurement") => {
                    let index: u8 = number(tag.required("index")?)?;
                    let values = tag.hashes()?;
                    match tag.required("active")? {
                        "False" => {}
                        "True" => {
                            if measurements.insert(index, values).is_some() {
                                return Err(bad(&format!("measurement {index} occurs twice")));
                            }
                        }
                        other => return Err(bad(&format!("active=\"{other}\""))),
                    }
                }
                _ => {}
            }
        }
        let (product, version) = meta.ok_or_else(|| bad("it has no Meta element"))?;
        if measurements.is_empty() {
            return Err(bad("it has no active measurement"));
        }
        Ok(Rim {
            sha256: Bytes(Sha256::digest(text).into()),
            product,
            version,
            measurements,
        })
    }
}

fn bad(reason: &str) -> RimError {
    RimError(reason.to_owned())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, RimError> {
    text.parse()
        .map_err(|_| bad(&format!("\"{text}\" is no number of the right size")))
}

/// A start tag with its attributes, names without their prefixes.
struct Tag<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Tag<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    fn required(&self, name: &str) -> Result<&'a str, RimError> {
        self.get(name)
            .ok_or_else(|| bad(&format!("{} lacks {name}", self.name)))
    }

    fn hashes(&self) -> Result<Vec<Bytes<48>>, RimError> {
        let count: usize = number(self.required("alternatives")?)?;
        if count == 0 || count > MAX_ALTERNATIVES {
            return Err(bad(
                "a measurement has an impossible number of alternatives",
            ));
        }
        (0..count)
            .map(|index| {
                let mut out = [0; 48];
                hex::decode_to_slice(self.required(&format!("Hash{index}"))?, &mut out)
                    .map_err(|error| bad(&format!("Hash{index}: {error}")))?;
                Ok(Bytes(out))
            })
            .collect()
    }
}

/// Every start tag of a text. Entities, comments and the like do not occur in these manifests and are refused where
/// they could matter.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = Result<Tag<'a>, RimError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (_, rest) = self.0.split_once('<')?;
            if let Some(after) = rest.strip_prefix('/').or_else(|| rest.strip_prefix('?')) {
                self.0 = after;
                continue;
            }
            let result = start_tag(rest);
            self.0 = match &result {
                Ok((_, after)) => after,
                Err(_) => "",
            };
            return Some(result.map(|(tag, _)| tag));
        }
    }
}

fn start_tag(text: &str) -> Result<(Tag<'_>, &str), RimError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_:-.".contains(c);
    let split = |text| -> (&str, &str) {
        let text: &str = text;
        text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()))
    };
    let local = |name| -> &str {
        let name: &str = name;
        name.rsplit_once(':').map_or(name, |(_, local)| local)
    };
    let (name, mut rest) = split(text);
    if name.is_empty() {
        return Err(bad("comments and declarations are not expected"));
    }
    let mut attributes: Vec<(&str, &str)> = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("/>").or_else(|| rest.strip_prefix('>')) {
            let name = local(name);
            return Ok((Tag { name, attributes }, after));
        }
        let (key, after) = split(rest);
        let value = after
            .strip_prefix("=\"")
            .and_then(|after| after.split_once('"'));
        let (value, after) = value.ok_or_else(|| bad("an attribute has another form"))?;
        if key.is_empty() || value.contains(['<', '&']) {
            return Err(bad("an attribute has another form"));
        }
        let declares_prefix = key.starts_with("xmlns");
        if !declares_prefix {
            if attributes.iter().any(|(known, _)| *known == local(key)) {
                return Err(bad(&format!("attribute {key} occurs twice")));
            }
            attributes.push((local(key), value));
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";

    fn manifest(body: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><S xmlns:n=\"x\"><n:Meta product=\"GH100\" colloquialVersion=\"1.2\"/>{body}</S>"
        )
    }

    #[test]
    fn values_are_read() {
        let rim = Rim::parse(&manifest(&format!(
            "<n:Resource type=\"Measurement\" index=\"7\" active=\"True\" alternatives=\"2\" h:Hash0=\"{H}\" h:Hash1=\"{H}\"/>\
             <n:Resource type=\"Measurement\" index=\"8\" active=\"False\" alternatives=\"1\" h:Hash0=\"{H}\"/>"
        )))
        .unwrap();
        assert_eq!(
            (rim.product.as_str(), rim.version.as_str()),
            ("GH100", "1.2")
        );
        assert_eq!(rim.measurements.keys().collect::<Vec<_>>(), [&7]);
        assert_eq!(rim.measurements[&7].len(), 2);
    }

    #[test]
    fn anything_else_is_refused() {
        let resource =
            |attributes: &str| manifest(&format!("<Resource type=\"Measurement\" {attributes}/>"));
        let good = format!("index=\"1\" active=\"True\" alternatives=\"1\" Hash0=\"{H}\"");
        Rim::parse(&resource(&good)).unwrap();
        for text in [
            String::new(),
            manifest(""),
            manifest("<!-- c -->"),
            resource(&good.replace("True", "true")),
            resource(&good.replace("\"1\" active", "\"256\" active")),
            resource(&good.replace("alternatives=\"1\"", "alternatives=\"2\"")),
            resource(&good.replace("alternatives=\"1\"", "alternatives=\"0\"")),
            resource(&good.replace("000102", "0001")),
            resource(&format!("{good} index=\"2\"")),
            resource(&good).replace(
                "/></S>",
                &format!("/><Resource type=\"Measurement\" {good}/></S>"),
            ),
            resource(&good).replace(
                "<n:Meta",
                "<n:Meta product=\"GH100\" colloquialVersion=\"1.2\"/><n:Meta",
            ),
        ] {
            assert!(Rim::parse(&text).is_err(), "{text}");
        }
    }
}
