//! TON for nodes: addresses, contract ABIs, wallets, mnemonics and the Chain trait.
