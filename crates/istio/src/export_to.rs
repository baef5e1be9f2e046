/// One word of `exportTo`: the namespaces that see a resource.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExportTo {
    /// `*`: every namespace.
    All,
    /// `.`: the namespace of the resource.
    Own,
    /// `~`: none (in `ServiceEntry` only).
    Nobody,
    /// A namespace by name.
    Namespace(String),
}

/// Whether `namespace` sees a resource of `own` with this `exportTo`; an empty list is `*`.
pub fn is_visible(export_to: &[ExportTo], own: &str, namespace: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|word| match word {
            ExportTo::All => true,
            ExportTo::Own => own == namespace,
            ExportTo::Nobody => false,
            ExportTo::Namespace(name) => name == namespace,
        })
}
