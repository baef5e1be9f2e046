//! The mesh on real Envoys: the east-west gateway, the sidecar of ratings and the application behind it.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use causeway::dev::mesh::RATINGS;
use causeway::dev::stack::ISSUER;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::envoy::Envoy;
use crate::ports;
use crate::world::World;

/// The SNI by which Istio's gateways know ratings.
pub const SNI: &str = "outbound_.9080_._.ratings.bookinfo.svc.cluster.local";

/// Ratings in the mesh.
pub struct Mesh {
    /// The east-west gateway.
    pub eastwest: Envoy,
    /// The sidecar of ratings.
    pub sidecar: Envoy,
}

impl Mesh {
    /// Starts application, sidecar and gateway. Ratings' SVID comes from the issuer, as any workload's.
    pub async fn start(world: &World) -> Result<Self, String> {
        Self::with_identity(world, "bookinfo-ratings").await
    }

    /// The same with the SVID of another role at ratings' place.
    pub async fn with_identity(world: &World, role: &str) -> Result<Self, String> {
        Self::before(world, role, ratings().await?).await
    }

    /// The same before another application, which listens at `app`.
    pub async fn before(world: &World, role: &str, app: SocketAddr) -> Result<Self, String> {
        let (certificate, key) = world.svid(role).await?;
        let root = world.folder.path().join("root.pem");
        std::fs::write(&root, &world.roots).map_err(|error| error.to_string())?;
        let text = |path: &std::path::Path| path.display().to_string();
        let values = [
            ("APP_PORT", app.port().to_string()),
            ("CERTIFICATE", text(&certificate)),
            ("KEY", text(&key)),
            ("ROOT", text(&root)),
            ("TRUST_DOMAIN", "cluster.local".to_owned()),
            ("PRINCIPAL", "cluster.local/ns/bookinfo/sa/bookinfo-reviews".to_owned()),
            ("ISSUER", ISSUER.to_owned()),
            ("AUDIENCE", "bookinfo".to_owned()),
            ("ISSUER_HOST", "127.0.0.1".to_owned()),
            ("ISSUER_PORT", world.issuer.port().to_string()),
        ];
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let sidecar = Envoy::start("sidecar", &values, world.folder.path()).await?;
        let port = sidecar.address.port().to_string();
        let eastwest = Envoy::start("eastwest", &[("SNI", SNI), ("SIDECAR_PORT", &port)], world.folder.path()).await?;
        Ok(Self { eastwest, sidecar })
    }
}

/// The ratings application: plain HTTP on a free port; it answers everything with the sample's ratings.
pub async fn ratings() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(ports::loopback(0)).await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(|_| async {
                Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from_static(RATINGS.as_bytes()))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(address)
}
