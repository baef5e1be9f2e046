//! The local stack: every program of Causeway in this process, wired as on AWS and in the mesh, on loopback ports.
//!
//! Real are the programs, their signatures, their TLS and their sockets. Played are API Gateway and the IAM door
//! (`gateway`), the stores (in memory) and the mesh's Envoys (`mesh`).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use adapter::Adapter;
use authorizer::Authorizer;
use authz::api_key::ApiKey;
use authz::{Policies, ShadowMode};
use identity::Secret;
use istio::{Resources, SourceFile};
use key_issuer::{Administration, KeyIssuer};
use platform::bundle::{Bundle, Section};
use platform::clock::{Clock, FixedClock, SystemClock};
use platform::log::Log;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::gateway::{
    Authorizer as GatewayAuthorizer, FunctionError, FunctionUrl, Gateway, GatewayConfig, InProcess, Integration,
    Invoker, Route,
};
use super::http::send;
use super::mesh::Ingress;
use super::seeds::{ACCOUNT, ENVIRONMENT, Seeds};
use crate::{bundle, configuration};

/// The issuer identifier of the examples.
pub const ISSUER: &str = "https://issuer.bookinfo.example";
/// The domain of the central API.
pub const API_DOMAIN: &str = "api.bookinfo.example";
/// A second domain of the same API, which no policy document describes.
pub const OTHER_DOMAIN: &str = "internal.bookinfo.example";
/// The service that the legacy function calls.
pub const RATINGS_URL: &str = "http://ratings.bookinfo.svc.cluster.local:9080/ratings/0";
/// A service whose place an impostor has taken.
pub const DETAILS_URL: &str = "http://details.bookinfo.svc.cluster.local:9080/details/0";

/// The configuration files of the examples, and what the local stack adds to them.
pub const EXAMPLES: [(&str, &str); 8] = [
    ("examples/bookinfo/access.yaml", include_str!("../../../examples/bookinfo/access.yaml")),
    ("examples/bookinfo/egress.yaml", include_str!("../../../examples/bookinfo/egress.yaml")),
    ("examples/bookinfo/gateway.yaml", include_str!("../../../examples/bookinfo/gateway.yaml")),
    ("examples/bookinfo/mesh.yaml", include_str!("../../../examples/bookinfo/mesh.yaml")),
    ("examples/bookinfo/routes.yaml", include_str!("../../../examples/bookinfo/routes.yaml")),
    ("examples/bookinfo/services.yaml", include_str!("../../../examples/bookinfo/services.yaml")),
    ("local/administration.yaml", include_str!("administration.yaml")),
    ("local/details.yaml", include_str!("details.yaml")),
];

/// Why the stack does not start.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The embedded configuration is refused, which is a bug of ours.
    #[error("the embedded configuration is refused: {0}")]
    Configuration(String),
    /// A port cannot be had.
    #[error("{part} cannot listen at {address}: {why}")]
    Bind {
        /// The part.
        part: &'static str,
        /// Where it should listen.
        address: SocketAddr,
        /// What the operating system says.
        why: String,
    },
    /// A part does not come up.
    #[error("{part}: {why}")]
    Part {
        /// The part.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// The loopback ports of the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// The central API.
    pub api: u16,
    /// The issuer's public door.
    pub issuer: u16,
    /// The issuer's IAM door.
    pub door: u16,
    /// The extension's proxy.
    pub proxy: u16,
    /// The mesh's gateway that asks the adapter.
    pub ingress: u16,
    /// The adapter.
    pub adapter: u16,
    /// The sidecar of ratings.
    pub ratings: u16,
}

impl Ports {
    /// The ports of `causeway dev`.
    pub const FIXED: Self =
        Self { api: 8080, issuer: 8081, door: 8082, proxy: 15001, ingress: 8083, adapter: 9191, ratings: 15443 };
}

/// Takes the log lines of all parts, each with the name of its part.
pub type Lines = Arc<dyn Fn(&'static str, &str) + Send + Sync>;

/// A running stack. Dropping it ends it.
pub struct Stack {
    /// The central API Gateway.
    pub api: SocketAddr,
    /// The issuer's public door.
    pub issuer: SocketAddr,
    /// The issuer's IAM door.
    pub door: SocketAddr,
    /// The extension's proxy.
    pub proxy: SocketAddr,
    /// The mesh's gateway.
    pub ingress: SocketAddr,
    /// The sidecar of ratings.
    pub ratings: SocketAddr,
    /// The secret of the client `reader`, whose scope opens the page.
    pub reader_secret: Secret<String>,
    /// The secret of the client `auditor`, whose scope does not.
    pub auditor_secret: Secret<String>,
    /// The secret of the client `admin`, whose scope administrates the issuer.
    pub admin_secret: Secret<String>,
    /// A key of the client `partner`.
    pub partner_key: ApiKey,
    /// A key of the client `partner` that has been revoked.
    pub revoked_key: ApiKey,
    /// An issuer with the same keys whose clock stands two hours back, for tokens that have expired.
    past_issuer: KeyIssuer,
    tasks: JoinSet<()>,
}

impl Stack {
    /// Starts everything.
    pub async fn start(ports: Ports, lines: Lines) -> Result<Self, StackError> {
        Self::start_in_shadow_mode(ports, lines, None).await
    }

    /// As [`start`](Self::start), with authorizer and adapter in shadow mode where there is one.
    pub async fn start_in_shadow_mode(
        ports: Ports,
        lines: Lines,
        shadow: Option<ShadowMode>,
    ) -> Result<Self, StackError> {
        let logs = Logs(lines);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut tasks = JoinSet::new();
        let credentials = Seeds::new(clock.unix()).await?;

        // The issuer and its two doors.
        let issuer_config = credentials.issuer_config()?;
        // It knows its own keys, so the policies about its administrators need none embedded.
        let administrators = bundle::build(&resources().map_err(configuration_refused)?, BTreeMap::new());
        let administrators = Bundle::from_bytes(administrators.map_err(configuration_refused)?)
            .map_err(|error| StackError::Configuration(error.to_string()))?;
        let administration = Administration { policies: Some(Arc::new(policies(&administrators)?)), usage_plans: None };
        let issuer = KeyIssuer::with_administration(
            issuer_config.clone(),
            credentials.issuer_deps(clock.clone(), logs.of("key-issuer")),
            administration,
        );
        let past: Arc<dyn Clock> = Arc::new(FixedClock::at(clock.unix() - 7_200));
        let past_issuer = KeyIssuer::new(issuer_config, credentials.issuer_deps(past, logs.of("key-issuer")));
        let invoker: Arc<dyn Invoker> = InProcess::service(issuer.clone());
        let issuer_door = serve(
            &mut tasks,
            "issuer",
            Gateway::bind(issuer_api(invoker.clone()), loopback(ports.issuer)),
            ports.issuer,
        )
        .await?;
        let iam_door = serve(
            &mut tasks,
            "IAM door",
            FunctionUrl::bind(credentials.door(invoker), loopback(ports.door)),
            ports.door,
        )
        .await?;

        // What the programs know: the examples, with the issuer's keys embedded.
        let jwks = send(issuer_door, "GET", "/jwks.json", &[("host", "issuer.bookinfo.example")], "").await;
        let jwks = jwks.map_err(|why| StackError::Part { part: "issuer", why })?.body;
        let mut resources = resources().map_err(|errors| StackError::Configuration(errors.join("; ")))?;
        // The issuer's name leads nowhere here; its keys are asked for again where it really is.
        for rule in resources.request_authentications.iter_mut().flat_map(|document| &mut document.jwt_rules) {
            rule.jwks_uri = Some(format!("http://{issuer_door}/jwks.json"));
        }
        let bundle = bundle::build(&resources, BTreeMap::from([(ISSUER.to_owned(), jwks)]));
        let bundle = bundle.map_err(|errors| StackError::Configuration(errors.join("; ")))?;
        let opened =
            Bundle::from_bytes(bundle.clone()).map_err(|error| StackError::Configuration(error.to_string()))?;
        let policies = || policies(&opened);

        // The mesh.
        let listener = listen("ratings", ports.ratings).await?;
        let ratings = local(&listener, "ratings")?;
        tasks.spawn(
            credentials
                .sidecar(&issuer, "ratings", policies()?, clock.clone(), logs.of("ratings sidecar"))
                .await?
                .run(listener),
        );
        let listener = listen("the impostor", 0).await?;
        let impostor = local(&listener, "the impostor")?;
        tasks.spawn(
            credentials
                .sidecar(&issuer, "intruder", policies()?, clock.clone(), logs.of("impostor"))
                .await?
                .run(listener),
        );

        // The egress side of the legacy function.
        let bound = credentials
            .extension(bundle, iam_door, [(15_443, ratings), (15_444, impostor)], ports.proxy, logs.of("extension"))
            .await?;
        let proxy = bound.address();
        tasks.spawn(async move {
            // Without a Lambda API to fail there is no error.
            let _ = bound.run(std::future::pending()).await;
        });

        // The central API with its authorizer.
        let deps = credentials.front_deps(clock.clone(), logs.of("authorizer"));
        let config = authorizer::Config { shadow: shadow.clone(), ..authorizer_config() };
        let authorizer = Authorizer::new(config, policies()?, deps);
        let authorizer = authorizer.map_err(|error| StackError::Part { part: "authorizer", why: error.to_string() })?;
        let api = central_api(InProcess::service(authorizer), proxy);
        let api = serve(&mut tasks, "API Gateway", Gateway::bind(api, loopback(ports.api)), ports.api).await?;

        // The mesh's gateway with the adapter.
        let workload = adapter::config::Workload {
            namespace: "bookinfo".to_owned(),
            labels: vec![("app".to_owned(), "ratings".to_owned())],
        };
        let place = adapter::Place { workload: Some(workload), environment: Some(ENVIRONMENT.to_owned()) };
        let deps = credentials.front_deps(clock, logs.of("adapter"));
        let adapter = Adapter::with_shadow_mode(place, policies()?, deps, None, shadow);
        let bound = adapter.and_then(|adapter| adapter.listen(loopback(ports.adapter)));
        let bound = bound.map_err(|error| match error {
            adapter::Error::Bind { address, source } => {
                StackError::Bind { part: "adapter", address, why: source.to_string() }
            }
            other => StackError::Part { part: "adapter", why: other.to_string() },
        })?;
        let listener = listen("the mesh gateway", ports.ingress).await?;
        let ingress = local(&listener, "the mesh gateway")?;
        tasks.spawn(Ingress { adapter: bound.address(), log: logs.of("mesh gateway") }.run(listener));
        tasks.spawn(async move {
            // A server that stops ends the stack, which says so.
            let _ = bound.run(std::future::pending()).await;
        });

        let Seeds { reader_secret, auditor_secret, admin_secret, partner_key, revoked_key, .. } = credentials;
        Ok(Self {
            api,
            issuer: issuer_door,
            door: iam_door,
            proxy,
            ingress,
            ratings,
            reader_secret,
            auditor_secret,
            admin_secret,
            partner_key,
            revoked_key,
            past_issuer,
            tasks,
        })
    }

    /// An access token of `reader` that expired more than an hour ago.
    pub async fn expired_token(&self) -> Result<String, String> {
        let basic = super::basic_credentials("reader", self.reader_secret.expose());
        let event = json!({
            "version": "2.0", "routeKey": "POST /oauth2/token", "rawPath": "/oauth2/token", "rawQueryString": "",
            "headers": {"authorization": basic, "content-type": "application/x-www-form-urlencoded"},
            "requestContext": {"accountId": ACCOUNT, "apiId": "issuer", "domainName": "issuer.bookinfo.example", "stage": "$default",
                "requestId": "past", "routeKey": "POST /oauth2/token",
                "http": {"method": "POST", "path": "/oauth2/token", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "demo"}},
            "body": "grant_type=client_credentials", "isBase64Encoded": false,
        });
        let answer = self.past_issuer.handle(event).await.map_err(|error| error.to_string())?;
        let body: Value = answer["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        body["access_token"].as_str().map(str::to_owned).ok_or_else(|| format!("no token in {answer}"))
    }

    /// Waits until a part ends, which none does by itself.
    pub async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}

/// The examples, as the programs see them.
pub fn resources() -> Result<Resources, Vec<String>> {
    let sources: Vec<SourceFile> =
        EXAMPLES.iter().map(|(name, text)| SourceFile { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
    configuration::parse(&sources, &[])
}

fn policies(bundle: &Bundle) -> Result<Policies, StackError> {
    let section = bundle.section(Section::Access).map_err(|error| StackError::Configuration(error.to_string()))?;
    let opened = Policies::open(section).map_err(|error| StackError::Configuration(error.to_string()))?;
    Ok(opened.with_keys_fetched_at(bundle.made_at()))
}

/// The issuer's public API: every route open, since the issuer itself proves its clients.
pub fn issuer_api(issuer: Arc<dyn Invoker>) -> GatewayConfig {
    let keys = [
        "POST /oauth2/token",
        "POST /oauth2/introspect",
        "POST /oauth2/revoke",
        "GET /jwks.json",
        "GET /spiffe-bundle.json",
        "GET /.well-known/openid-configuration",
        "GET /.well-known/oauth-authorization-server",
        "GET /revocations",
        "ANY /v1/{proxy+}",
    ];
    GatewayConfig {
        domains: vec!["issuer.bookinfo.example".to_owned()],
        routes: keys.map(|key| Route::new(key, "key-issuer")).to_vec(),
        integrations: vec![Integration::new("key-issuer", issuer)],
        ..GatewayConfig::new("issuer", "$default")
    }
}

fn configuration_refused(errors: Vec<String>) -> StackError {
    StackError::Configuration(errors.join("; "))
}

/// The central API: everything guarded by the authorizer, no caching.
pub fn central_api_with(
    authorizer: Arc<dyn Invoker>,
    productpage: Arc<dyn Invoker>,
    reviews: Arc<dyn Invoker>,
) -> GatewayConfig {
    let guarded = |key: &str, integration: &str| Route::new(key, integration).guarded_by("causeway");
    GatewayConfig {
        domains: vec![API_DOMAIN.to_owned(), OTHER_DOMAIN.to_owned()],
        routes: vec![
            guarded("GET /productpage", "productpage"),
            guarded("ANY /reviews/{proxy+}", "reviews"),
            guarded("$default", "productpage"),
        ],
        authorizers: vec![GatewayAuthorizer::new("causeway", authorizer)],
        integrations: vec![Integration::new("productpage", productpage), Integration::new("reviews", reviews)],
        ..GatewayConfig::new("bookinfo", "$default")
    }
}

fn central_api(authorizer: Arc<dyn Invoker>, proxy: SocketAddr) -> GatewayConfig {
    let productpage = InProcess::function(|_| async {
        Ok(
            json!({"statusCode": 200, "headers": {"content-type": "text/html"}, "body": "<h1>The Comedy of Errors</h1>"}),
        )
    });
    central_api_with(authorizer, productpage, reviews(proxy))
}

/// The legacy function: it knows a host name and HTTP_PROXY, and nothing of Causeway.
fn reviews(proxy: SocketAddr) -> Arc<dyn Invoker> {
    InProcess::function(move |_| async move {
        let ratings = send(proxy, "GET", RATINGS_URL, &[("host", "ratings.bookinfo.svc.cluster.local:9080")], "").await;
        let ratings =
            ratings.map_err(|error_message| FunctionError { error_type: "Ratings".to_owned(), error_message })?;
        let body = if ratings.status == 200 {
            json!({"id": 0, "reviews": "An extremely entertaining play by Shakespeare.", "ratings": serde_json::from_str::<Value>(&ratings.body).ok()})
        } else {
            json!({"id": 0, "reviews": "An extremely entertaining play by Shakespeare.", "error": "ratings service is currently unavailable"})
        };
        Ok(json!({"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body.to_string()}))
    })
}

/// The authorizer's configuration where nothing is read from files or the environment.
fn authorizer_config() -> authorizer::Config {
    authorizer::Config {
        bundle: std::path::PathBuf::new(),
        response: Default::default(),
        token_header: authorizer::event::TOKEN_HEADER.to_owned(),
        environment: Some(ENVIRONMENT.to_owned()),
        api_keys: None,
        jwks: Default::default(),
        metrics: None,
        revocations: None,
        rate_limits: None,
        shadow: None,
    }
}

struct Logs(Lines);

impl Logs {
    fn of(&self, part: &'static str) -> Log {
        let lines = self.0.clone();
        Log::to(move |line| lines(part, line))
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

async fn listen(part: &'static str, port: u16) -> Result<TcpListener, StackError> {
    let address = loopback(port);
    TcpListener::bind(address).await.map_err(|error| StackError::Bind { part, address, why: error.to_string() })
}

fn local(listener: &TcpListener, part: &'static str) -> Result<SocketAddr, StackError> {
    listener.local_addr().map_err(|error| StackError::Part { part, why: error.to_string() })
}

async fn serve(
    tasks: &mut JoinSet<()>,
    part: &'static str,
    bound: impl Future<Output = Result<super::gateway::Bound, super::gateway::BindError>>,
    port: u16,
) -> Result<SocketAddr, StackError> {
    let bound =
        bound.await.map_err(|error| StackError::Bind { part, address: loopback(port), why: error.to_string() })?;
    let address = bound.address();
    tasks.spawn(async move {
        bound.run(std::future::pending()).await;
    });
    Ok(address)
}

/// How long the demo waits for a part.
pub const PATIENCE: Duration = Duration::from_secs(30);
