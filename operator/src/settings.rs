//! How this operator was set up. Needs no client.

/// How this operator was set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Hub of objects that name none.
    pub hub_endpoint: String,
    /// Image of training and evaluation pods.
    pub trainer_image: String,
    /// Image of serving pods; it holds the router too.
    pub server_image: String,
    /// `imagePullPolicy` of every pod.
    pub image_pull_policy: String,
    /// The one namespace looked at; `None` is all of them.
    pub namespace: Option<String>,
}
