//! Object stores behind a synchronous face: which store a URL means, waiting for its answers, listing and whole objects.

mod blocks;

pub(crate) use blocks::{Random, RemoteFile};

use curate_core::{Error, Location, Result};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme};
use std::future::Future;
use std::io::Write;
use std::sync::{Arc, OnceLock, mpsc};
use tokio::runtime::Runtime;
use url::Url;

/// Object stores known by the beginning of their URLs. URLs that match none are opened from their scheme, with credentials
/// from the environment.
#[derive(Clone, Debug, Default)]
pub struct Stores(Vec<(String, Arc<dyn ObjectStore>)>);

/// An object: its store, its path in it and its URL for people.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) url: String,
}

impl Stores {
    /// The same stores and one more: URLs that begin with `prefix` (such as `mem://bucket`) are objects of `store`.
    #[must_use]
    pub fn with(mut self, prefix: impl Into<String>, store: Arc<dyn ObjectStore>) -> Self {
        self.0.push((prefix.into().trim_end_matches('/').to_owned(), store));
        self
    }

    /// The object a URL means.
    pub(crate) fn object(&self, url: &str) -> Result<Object> {
        for (prefix, store) in &self.0 {
            if let Some(rest) =
                url.strip_prefix(prefix.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))
            {
                let path = Path::parse(rest.trim_matches('/')).map_err(|e| bad_url(url, &e.to_string()))?;
                return Ok(Object { store: Arc::clone(store), path, url: url.to_owned() });
            }
        }
        let parsed = Url::parse(url).map_err(|e| bad_url(url, &e.to_string()))?;
        let (scheme, path) = ObjectStoreScheme::parse(&parsed).map_err(|e| bad_url(url, &e.to_string()))?;
        let store = from_scheme(&scheme, url)?;
        Ok(Object { store, path, url: url.to_owned() })
    }
}

fn bad_url(url: &str, why: &str) -> Error {
    Error::usage("store/url", format!("'{url}' is not the URL of an object: {why}"))
        .hint("write s3://bucket/path, gs://bucket/path, az://container/path or file:///path")
}

/// The only place that reads the environment: credentials of object stores.
fn from_scheme(scheme: &ObjectStoreScheme, url: &str) -> Result<Arc<dyn ObjectStore>> {
    use object_store::{aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder};
    let fail = |e| failed(e, url);
    match scheme {
        ObjectStoreScheme::AmazonS3 => Ok(Arc::new(AmazonS3Builder::from_env().with_url(url).build().map_err(fail)?)),
        ObjectStoreScheme::GoogleCloudStorage => {
            Ok(Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url).build().map_err(fail)?))
        }
        ObjectStoreScheme::MicrosoftAzure => {
            Ok(Arc::new(MicrosoftAzureBuilder::from_env().with_url(url).build().map_err(fail)?))
        }
        _ => Err(bad_url(url, "this scheme is not supported")),
    }
}

/// Drive a request to its end on the runtime of object stores; may be called from any thread, async or not.
pub(crate) fn wait<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> Result<T> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object-store")
            .enable_all()
            .build()
            .ok()
    });
    let stopped = || Error::io("store/runtime", "the object store client could not be started");
    let (sender, answer) = mpsc::sync_channel(1);
    runtime.as_ref().ok_or_else(stopped)?.spawn(async move { sender.send(request.await) });
    answer.recv().map_err(|_| stopped())
}

/// A store's error as one of ours.
pub(crate) fn failed(error: object_store::Error, url: &str) -> Error {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => {
            Error::io("input/not-found", "there is no such object").hint("check the bucket and the path")
        }
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Error::io("store/denied", error.to_string())
            .hint("set the usual credentials of this store, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        E::AlreadyExists { .. } => {
            Error::usage("output/exists", "the object exists already").hint("use --overwrite, or choose another name")
        }
        _ => Error::io("store/failed", error.to_string())
            .hint("check the URL, the network and the credentials of this store"),
    }
    .at(Location::file(url))
    .because(error)
}

impl Object {
    /// Size and identity of the object.
    pub(crate) fn head(&self) -> Result<ObjectMeta> {
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        wait(async move { store.head(&path).await })?.map_err(|e| failed(e, &self.url))
    }

    /// Take the object away.
    pub(crate) fn delete(&self) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        wait(async move { store.delete(&path).await })?.map_err(|e| failed(e, &self.url))
    }

    /// All objects below this path, sorted, as paths relative to the store.
    pub(crate) fn list(&self) -> Result<Vec<Path>> {
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        let listing =
            wait(async move { store.list(Some(&path)).map_ok(|meta| meta.location).try_collect::<Vec<_>>().await });
        let mut paths = listing?.map_err(|e| failed(e, &self.url))?;
        paths.sort();
        Ok(paths)
    }

    /// Another object of the same store.
    pub(crate) fn sibling(&self, path: Path) -> Self {
        let url = self.url.trim_end_matches('/');
        let root = url.strip_suffix(self.path.as_ref()).unwrap_or(url).trim_end_matches('/');
        Self { store: Arc::clone(&self.store), url: format!("{root}/{path}"), path }
    }

    /// Copy the whole object to `output`, a piece at a time.
    pub(crate) fn copy_to(&self, output: &mut impl Write) -> Result<()> {
        let (store, path, url) = (Arc::clone(&self.store), self.path.clone(), self.url.clone());
        let (sender, pieces) = mpsc::sync_channel(4);
        let feed = async move {
            match store.get(&path).await {
                Ok(found) => {
                    let mut stream = found.into_stream();
                    while let Some(piece) = stream.next().await {
                        if tokio::task::block_in_place(|| sender.send(piece)).is_err() {
                            return;
                        }
                    }
                }
                Err(error) => drop(sender.send(Err(error))),
            }
        };
        let pump = std::thread::spawn(move || wait(feed));
        for piece in pieces {
            let piece = piece.map_err(|e| failed(e, &url))?;
            output.write_all(&piece).map_err(|e| crate::errors::io_at(e, "the scratch folder"))?;
        }
        pump.join().map_err(|_| Error::io("store/runtime", "the object store client stopped"))?
    }
}
