# What cert-manager may do in Vault: have intermediates signed by the mesh's root, and nothing else.
path "pki_mesh/root/sign-intermediate" {
  capabilities = ["create", "update"]
}
