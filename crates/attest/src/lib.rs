//! Who is on the other end: RA-TLS certificates, proof of work, policies, the attestation frame.
