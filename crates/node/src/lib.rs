//! The roles: client, proxy and worker, each a pure core with a thin driver.
