//! The codes under test: the built contracts, or the same with one of them replaced by a committed mutant.

use std::path::{Path, PathBuf};

use cocoon_ton::Cell;
use serde::Deserialize;
use tycho_types::boc::Boc;

/// The code cells of all five contracts.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Root.
    pub root: Cell,
    /// Proxy.
    pub proxy: Cell,
    /// Client.
    pub client: Cell,
    /// Worker.
    pub worker: Cell,
    /// Wallet.
    pub wallet: Cell,
}

/// A contract with a fault built in; made by `contracts/mutants.mjs`.
#[derive(Clone, Debug, Deserialize)]
pub struct Mutant {
    /// Name.
    pub id: String,
    /// Which contract it replaces: root, proxy, client, worker or wallet.
    pub contract: String,
    /// What is wrong with it, in one sentence.
    pub breaks: String,
    /// Code as a bag of cells in base64.
    pub boc: String,
}

#[derive(Deserialize)]
struct MutantFile {
    mutants: Vec<Mutant>,
}

fn build_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/build")
}

fn load(name: &str) -> Cell {
    let path = build_directory().join(format!("{name}.boc"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| {
        panic!(
            "{}: {e}; run `node build.mjs` in contracts/",
            path.display()
        )
    });
    Boc::decode(&bytes).unwrap_or_else(|e| panic!("{} is not a BOC: {e}", path.display()))
}

impl Codes {
    /// What `contracts/build` holds.
    pub fn built() -> Self {
        Self {
            root: load("CocoonRoot"),
            proxy: load("CocoonProxy"),
            client: load("CocoonClient"),
            worker: load("CocoonWorker"),
            wallet: load("CocoonWallet"),
        }
    }

    /// The built contracts with one of them replaced by the mutant of this name.
    pub fn with_mutant(id: &str) -> Self {
        let mutants = mutants();
        let mutant = mutants
            .iter()
            .find(|mutant| mutant.id == id)
            .unwrap_or_else(|| panic!("there is no mutant {id} in contracts/build/mutants.json"));
        Self::built().replaced_by(mutant)
    }

    /// The same codes with one replaced.
    pub fn replaced_by(mut self, mutant: &Mutant) -> Self {
        let code = Boc::decode_base64(&mutant.boc)
            .unwrap_or_else(|e| panic!("mutant {}: not a BOC: {e}", mutant.id));
        let place = self.place(&mutant.contract);
        assert_ne!(
            *place, code,
            "mutant {} is the original; run `node mutants.mjs` in contracts/",
            mutant.id
        );
        *place = code;
        self
    }

    /// The code of a contract by its name.
    pub fn of(&self, contract: &str) -> &Cell {
        match contract {
            "root" => &self.root,
            "proxy" => &self.proxy,
            "client" => &self.client,
            "worker" => &self.worker,
            "wallet" => &self.wallet,
            other => panic!("there is no contract {other}"),
        }
    }

    fn place(&mut self, contract: &str) -> &mut Cell {
        match contract {
            "root" => &mut self.root,
            "proxy" => &mut self.proxy,
            "client" => &mut self.client,
            "worker" => &mut self.worker,
            "wallet" => &mut self.wallet,
            other => panic!("there is no contract {other}"),
        }
    }
}

/// All mutants that were built.
pub fn mutants() -> Vec<Mutant> {
    let path = build_directory().join("mutants.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| {
        panic!(
            "{}: {e}; run `node mutants.mjs` in contracts/",
            path.display()
        )
    });
    let file: MutantFile = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{} cannot be read: {e}", path.display()));
    file.mutants
}
