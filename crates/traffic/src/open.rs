//! Reading the [table](crate::table): checked once as a whole, and each part turned into Rust when it is first used.

use crate::table::{Cluster, Listener, Outbound, VirtualHost};

/// The opened egress section of a bundle. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Rules;

/// Why an egress section cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the egress section of the bundle cannot be used: {0}; write the bundle again with the `causeway` of the same release"
)]
pub struct OpenError(pub(crate) String);

/// What one workload sees.
#[derive(Clone, Debug)]
pub struct View;

impl Rules {
    /// Opens what [`crate::compile()`] wrote, and checks all of it.
    ///
    /// # Errors
    /// When the bytes are not a whole egress section of this version.
    pub fn open(_section: &[u8]) -> Result<Rules, OpenError> {
        Err(OpenError("not written yet".to_owned()))
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&self) -> &str {
        ""
    }

    /// What a workload of `namespace` with `labels` sees. Without a namespace: what all see alike; an error names the
    /// variable to set when they do not.
    ///
    /// # Errors
    /// When it depends on the namespace, and there is none.
    pub fn view(&self, _namespace: Option<&str>, _labels: &[(String, String)]) -> Result<View, String> {
        Err(String::new())
    }

    /// A virtual host, by its index.
    pub fn virtual_host(&self, _index: u32) -> Option<VirtualHost> {
        None
    }

    /// A cluster, by its index.
    pub fn cluster(&self, _index: u32) -> Option<Cluster> {
        None
    }

    /// How many virtual hosts there are.
    pub fn virtual_hosts(&self) -> usize {
        0
    }

    /// How many clusters there are.
    pub fn clusters(&self) -> usize {
        0
    }
}

impl View {
    /// The index of the virtual host of a host (in any case, a dot at the end allowed) and port: an exact name before
    /// a wildcard, the longest wildcard first.
    pub fn find(&self, _host: &str, _port: u16) -> Option<u32> {
        None
    }

    /// What becomes of other hosts.
    pub fn outbound(&self) -> Outbound {
        Outbound::RegistryOnly
    }

    /// Listeners of their own.
    pub fn listeners(&self) -> Vec<Listener> {
        Vec::new()
    }

    /// Every exact host and port that can be called, for people.
    pub fn names(&self) -> Vec<(String, u16)> {
        Vec::new()
    }
}
