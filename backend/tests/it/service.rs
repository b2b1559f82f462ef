//! A complete service in this process: both listeners on free ports, with its own store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use holodule_backend::feed::Feed;
use holodule_backend::handler::{self, App};
use holodule_backend::model::{Holodule, NewUser, StoredPassword, Username, ValidHolodule};
use holodule_backend::password::{self, Hasher};
use holodule_backend::record::Metrics;
use holodule_backend::server::{self, Address, Drained, Limits, Listeners};
use holodule_backend::store::{self, Store};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::http::{self, Reply};

/// Settings that tests change.
pub(crate) struct Setup {
    pub(crate) api: Address,
    pub(crate) admin: Address,
    pub(crate) server: server::Settings,
    pub(crate) handler: handler::Settings,
    pub(crate) password: password::Settings,
    /// The clock of lists, instead of the system's.
    pub(crate) clock: Option<fn() -> i64>,
    /// The same, if the test changes it.
    pub(crate) moving_clock: Option<Arc<AtomicI64>>,
}

impl Default for Setup {
    fn default() -> Self {
        let limits = Limits {
            max_connections: 64,
            header_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(20),
            header_bytes: 16 * 1024,
        };
        Self {
            api: "127.0.0.1:0".parse().unwrap(),
            admin: "127.0.0.1:0".parse().unwrap(),
            server: server::Settings { api: limits, admin: limits, drain: Duration::from_secs(20) },
            handler: handler::Settings {
                page: true,
                allowed_hosts: Vec::new(),
                login_names: true,
                body_limit: 1 << 20,
                body_timeout: Duration::from_secs(20),
                concurrent_uploads: 2,
                backup_folder: None,
                lists: handler::ListSettings::default(),
            },
            // Cheap hashes, because their strength is not tested.
            password: password::Settings {
                memory_kib: 64,
                iterations: 1,
                parallelism: 1,
                concurrency: 2,
                queue: 16,
                upgrade: true,
            },
            clock: None,
            moving_clock: None,
        }
    }
}

/// A running service.
pub(crate) struct Service {
    pub(crate) api: Address,
    pub(crate) admin: Address,
    pub(crate) store: Store,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Drained>,
    _folder: Option<TempDir>,
}

impl Service {
    /// A service with an empty embedded store.
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Self::in_folder(folder.path(), setup).await;
        Self { _folder: Some(folder), ..service }
    }

    /// A service with the embedded store of a folder.
    pub(crate) async fn in_folder(folder: &Path, setup: Setup) -> Self {
        let settings = store::Settings {
            url: format!("embedded:{}", folder.join("store.redb").display()).parse().unwrap(),
            operation_timeout: Duration::from_secs(20),
            max_connections: 4,
            text_cache: 1 << 20,
        };
        Self::over(Store::open(&settings).await.unwrap(), setup).await
    }

    /// A service with an open store.
    pub(crate) async fn over(store: Store, setup: Setup) -> Self {
        let hasher = Hasher::new(&setup.password).unwrap();
        let feed = Feed::start(store.clone()).unwrap();
        let metrics = Metrics::new().unwrap();
        let mut app = App::new(store.clone(), hasher, feed, metrics, setup.handler, || 0);
        if let Some(clock) = setup.clock {
            app = app.with_clock(clock);
        }
        if let Some(clock) = setup.moving_clock {
            app = app.with_clock(move || clock.load(Ordering::SeqCst));
        }
        let app = Arc::new(app);
        let listeners = Listeners::bind(&setup.api, &setup.admin).await.unwrap();
        let (api, admin) = (listeners.api.address().unwrap(), listeners.admin.address().unwrap());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or_default() };
            server::run(listeners, &setup.server, app, shutdown).await
        });
        Self { api, admin, store, stop, running, _folder: None }
    }

    /// Starts the shutdown, whose result is returned by the handle.
    pub(crate) fn stop(self) -> JoinHandle<Drained> {
        self.stop.send(()).unwrap();
        self.running
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        http::send(&self.api, "GET", path, &[], "").await
    }

    /// Sends a JSON request to the admin listener.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &str) -> Reply {
        http::send(&self.admin, method, path, &[("Content-Type", "application/json")], body).await
    }

    pub(crate) async fn verify(&self, username: &str, password: &str) -> Reply {
        let body = serde_json::json!({ "username": username, "password": password }).to_string();
        self.admin("POST", "/credentials/verify", &body).await
    }

    /// The value of one series of the metrics.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let page = http::send(&self.admin, "GET", "/metrics", &[], "").await.body;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
    }

    /// Waits until a series of the metrics has at least this value.
    pub(crate) async fn until(&self, series: &str, value: f64) {
        let reached = async { while self.metric(series).await < value {} };
        let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
        reached.unwrap_or_else(|_| panic!("{series} never came to {value}"));
    }

    /// Adds a user with the stored password `stored`.
    pub(crate) async fn user(&self, username: &str, stored: &str) {
        let user = NewUser {
            username: Username::parse(username).unwrap(),
            hash: StoredPassword::new(stored),
            created_at: 1_600_000_000,
        };
        assert!(self.store.create_user(user).await.unwrap());
    }

    pub(crate) async fn holodules(&self, holodules: impl IntoIterator<Item = Holodule>) {
        let entries = holodules.into_iter().map(|holodule| ValidHolodule::new(holodule).unwrap()).collect();
        self.store.upsert(entries).await.unwrap();
    }
}

/// A holodule at a given time. `number` determines its video and, by its last three digits, the streamer in its key:
/// codes end at HL0999.
pub(crate) fn holodule(number: u32, datetime: &str) -> Holodule {
    Holodule {
        key: Some(format!("HL{:04}_{}", number % 1000, datetime.replace(' ', "_"))),
        video_id: Some(format!("video{number:06}")),
        datetime: Some(datetime.to_owned()),
        name: Some("ときのそら".to_owned()),
        title: Some(format!("title {number}")),
        url: Some(format!("https://www.youtube.com/watch?v=video{number:06}")),
        description: Some("two\nlines".to_owned()),
        ..Holodule::default()
    }
}
