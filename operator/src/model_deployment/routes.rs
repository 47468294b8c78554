//! The split as the routers read it. Pure: no client.

use k8s_openapi::api::core::v1::ConfigMap;
use slipway_contract::{ExperimentMetric, RouteCanary, RouteFeedback, RouteMirror, RouteTable, RouteVariant};

use super::{
    ROUTES_KEY,
    desired::{HTTP_PORT, object_name},
    experiment::{self, Told},
    inputs::{Inputs, VariantInput},
    plan::{self, Plan},
    rollout, scale,
    server::{self, Track},
};
use crate::{
    crd::{ModelDeployment, RolloutStatus},
    names,
};

/// Name of the ConfigMap that holds the split.
pub fn name(object: &ModelDeployment) -> String {
    format!("{}-routes", object_name(object))
}

/// What seals the ids of answers in the split of that ConfigMap.
pub fn feedback_key(map: &ConfigMap) -> Option<String> {
    let table: RouteTable = serde_json::from_str(map.data.as_ref()?.get(ROUTES_KEY)?).ok()?;
    Some(table.feedback?.key)
}

/// The split that `plan` comes to.
pub fn table(object: &ModelDeployment, plan: &Plan<'_>) -> RouteTable {
    build(
        object,
        plan.arms.iter().map(|arm| (arm.input, arm.rollout.as_ref())),
        &plan.experiment.told,
        plan.feedback_key.as_deref(),
    )
}

/// Version of the split that the status asks for: what routers say that have taken it over.
pub fn version(object: &ModelDeployment, inputs: &Inputs<'_>) -> String {
    let rollout = |input: &VariantInput<'_>| plan::known(object, &input.spec.name)?.rollout.as_ref();
    build(
        object,
        inputs.variants.iter().map(|input| (input, rollout(input))),
        &experiment::told_before(object, inputs),
        inputs.feedback_key.as_deref(),
    )
    .version
}

fn has_pods(rollout: &RolloutStatus) -> bool {
    // Any number of pods of the arm will do: a share of it is one pod at least.
    rollout::intent(Some(rollout), 1).canary_replicas > 0
}

/// The revision that answers, or will once an arm without pods has some.
fn serving(input: &VariantInput<'_>, held: bool) -> String {
    let serving = input.serving_revision();
    match &input.server {
        Some(server) if held && serving.is_empty() => server::revision_of(server),
        _ => serving,
    }
}

/// Whether an experiment needs the scores of the arms, so that an analysis gets none before a revision is rolled in.
fn takes_scores(told: &Told) -> bool {
    let metric = told.route.as_ref().map(|route| route.metric);
    matches!(metric, Some(ExperimentMetric::FeedbackScore(_)))
}

/// A variant without any pods yet is listed too: the router gives its share to the ready ones until it answers, or
/// holds its requests where it may be scaled to zero.
fn build<'a>(
    object: &ModelDeployment,
    arms: impl Iterator<Item = (&'a VariantInput<'a>, Option<&'a RolloutStatus>)>,
    told: &Told,
    feedback_key: Option<&str>,
) -> RouteTable {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let url = |service: &str| format!("http://{service}.{namespace}.svc:{HTTP_PORT}");
    let (mut window, mut rolling) = (String::new(), false);
    let variants = arms
        .map(|(input, rollout)| {
            let rollout = rollout.filter(|rollout| plan::is_active(rollout));
            if let Some(rollout) = rollout {
                rolling = true;
                window += &rollout::window(rollout, &object.spec.strategy);
            }
            let name = &input.spec.name;
            let hold = scale::hold(object, input.spec, told.percent(input.spec));
            let service = |track, revision: &str| url(&server::name(object, name, track, revision));
            RouteVariant {
                name: name.clone(),
                weight: told.percent(input.spec),
                url: service(Track::Stable, ""),
                // While the arm's own pods become the new revision, both answer there under the old one's name.
                revision: rollout
                    .map_or_else(|| serving(input, hold.is_some()), |rollout| rollout.from.clone()),
                canary: rollout
                    .filter(|rollout| has_pods(rollout))
                    .map(|rollout| RouteCanary {
                        url: service(Track::Canary, &rollout.revision),
                        revision: rollout.revision.clone(),
                        percent: rollout.weight,
                        mirror_percent: rollout.mirror,
                    }),
                hold,
            }
        })
        .collect();
    let mut table = RouteTable {
        variants,
        sticky: object.spec.traffic.sticky.clone(),
        version: String::new(),
        window,
        feedback: feedback_key
            .filter(|_| rolling || !takes_scores(told))
            .map(|key| RouteFeedback { key: key.to_owned() }),
        experiment: told.route.clone(),
        mirror: object.spec.traffic.mirror.as_ref().map(|mirror| RouteMirror {
            variant: mirror.variant.clone(),
            percent: mirror.percent,
        }),
    };
    table.version = names::digest(&(object_name(object), &table));
    table
}
