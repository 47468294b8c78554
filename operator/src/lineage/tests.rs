use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;

use super::*;

fn object<K: DeserializeOwned>(yaml: &str) -> K {
    serde_saphyr::from_str(yaml).unwrap()
}

const BASE: &str = "1111111111111111111111111111111111111111";
const TUNED: &str = "2222222222222222222222222222222222222222";
const DATA: &str = "3333333333333333333333333333333333333333";

fn world() -> World {
    World {
        deployments: vec![object(&format!(
            "metadata: {{name: web, namespace: models}}
spec: {{task: SequenceClassification, variants: [{{name: control, model: {{hub: {{repo: acme/minilm}}}}}}]}}
status:
  url: http://web.models.svc
  conditions: []
  variants:
  - {{name: control, revision: r1, trafficPercent: 90, model: {{repo: acme/minilm, commit: '{BASE}'}}, nextRevision: r2, nextModel: {{repo: acme/tuned, commit: '{TUNED}'}}}}"
        ))],
        jobs: vec![
            object(&format!(
                "metadata: {{name: tune, namespace: models}}
spec: {{model: {{hub: {{repo: acme/minilm}}}}, dataset: {{hub: {{repo: acme/tweets}}}}}}
status:
  model: {{repo: acme/minilm, commit: '{BASE}'}}
  dataset: {{repo: acme/tweets, commit: '{DATA}'}}
  output: {{repo: acme/tuned, commit: '{TUNED}', url: 'http://hub/acme/tuned'}}
  summary: 100%
  metrics: [{{name: evalAccuracy, value: 0.8125}}, {{name: loss, value: 0.5}}]
  conditions: []"
            )),
            object(
                "metadata: {name: other, namespace: models}
spec: {model: {hub: {repo: acme/minilm}}, dataset: {url: 'http://h/d.csv'}}
status: {claim: other-checkpoints, conditions: []}",
            ),
        ],
        runs: vec![object(&format!(
            "metadata: {{name: gate, namespace: models}}
spec: {{target: {{model: {{fineTuneJob: {{name: tune}}}}}}, dataset: {{hub: {{repo: acme/tweets}}}}, metrics: [{{name: accuracy}}]}}
status:
  target: {{repo: acme/tuned, commit: '{TUNED}'}}
  dataset: {{repo: acme/tweets, commit: '{DATA}'}}
  baseline: {{repo: acme/minilm, commit: '{BASE}'}}
  verdict: Passed
  summary: accuracy 0.8000 ±0.0300
  failedAttempts: 0
  record: {{repo: acme/tuned, commit: '{DATA}', url: u}}
  conditions: []"
        ))],
    }
}

fn pod(labels: &str) -> Pod {
    object(&format!(
        "metadata: {{name: p, namespace: models, labels: {labels}}}\nstatus: {{phase: Running}}"
    ))
}

fn shown(start: &str, pod: Option<&Pod>) -> String {
    text(&tree(&start.parse().unwrap(), pod, &world()).unwrap())
}

#[test]
fn a_running_pod_leads_to_commits_jobs_data_and_verdicts() {
    let pod =
        pod("{slipway.dev/model-deployment: web, slipway.dev/variant: control, slipway.dev/revision: r2}");
    assert_eq!(
        shown("pod/p", Some(&pod)),
        "\
Pod p (phase Running)
└─ of ModelDeployment web (url http://web.models.svc)
   └─ serves Revision control/r2 (state being rolled in)
      └─ serves Model acme/tuned@222222222222
         ├─ made by FineTuneJob tune (evalAccuracy 0.8125, progress 100%)
         │  ├─ started from Model acme/minilm@111111111111
         │  └─ learned from Dataset acme/tweets@333333333333
         └─ measured by EvalRun gate (figure accuracy 0.8000 ±0.0300, verdict Passed)
            ├─ on Dataset acme/tweets@333333333333
            ├─ against Model acme/minilm@111111111111
            └─ recorded in Card acme/tuned@333333333333
"
    );
}

#[test]
fn a_deployment_shows_every_revision_that_serves_or_comes() {
    let text = shown("mdep/web", None);
    assert!(
        text.contains("Revision control/r1 (traffic 90 %)") && text.contains("Revision control/r2"),
        "{text}"
    );
}

#[test]
fn a_run_that_asked_a_revision_over_http_stands_at_that_revision() {
    let run = |name: &str, target: &str| {
        object::<EvalRun>(&format!(
            "metadata: {{name: {name}, namespace: models}}
spec: {{target: {{deployment: {target}}}, dataset: {{hub: {{repo: acme/tweets}}}}, metrics: [{{name: accuracy}}]}}"
        ))
    };
    let mut world = world();
    world.runs = vec![
        run("gate-r2", "{name: web, variant: control, revision: r2}"),
        run("watch", "{name: web}"),
        run("elsewhere", "{name: shop, variant: control, revision: r2}"),
    ];
    let shown = text(&tree(&"mdep/web".parse().unwrap(), None, &world).unwrap());
    let (serving, coming) = shown.split_once("Revision control/r2").unwrap();
    assert!(
        serving.contains("measured by EvalRun watch") && !serving.contains("gate-r2"),
        "{shown}"
    );
    assert!(
        coming.contains("measured by EvalRun gate-r2") && !coming.contains("watch"),
        "{shown}"
    );
    assert!(!shown.contains("elsewhere"), "{shown}");
}

#[test]
fn a_job_shows_what_it_made_and_a_run_what_it_measured() {
    let job = shown("finetunejobs.slipway.dev/tune", None);
    assert!(
        job.starts_with("FineTuneJob tune") && job.contains("made Model acme/tuned@222222222222\n"),
        "{job}"
    );
    assert!(job.contains("measured by EvalRun gate"), "{job}");
    let run = shown("evr/gate", None);
    assert!(
        run.contains("of Model acme/tuned@222222222222") && run.contains("made by FineTuneJob tune"),
        "{run}"
    );
}

#[test]
fn what_is_gone_is_said_and_what_is_not_ours_has_no_lineage() {
    let gone =
        pod("{slipway.dev/model-deployment: web, slipway.dev/variant: control, slipway.dev/revision: r0}");
    assert!(shown("po/p", Some(&gone)).contains("Revision control/r0 (state no longer there)"));
    let orphan = pod("{slipway.dev/fine-tune-job: lost}");
    assert!(shown("pod/p", Some(&orphan)).contains("FineTuneJob lost (state no longer there)"));
    let start: Start = "pod/p".parse().unwrap();
    assert_eq!(tree(&start, Some(&pod("{app: web}")), &world()), None);
    let start: Start = "evr/nowhere".parse().unwrap();
    assert_eq!(tree(&start, None, &world()), None);
}

#[test]
fn a_job_that_started_from_its_own_output_ends() {
    let mut world = world();
    let status = world.jobs[0].status.as_mut().unwrap();
    status.model = Some(crate::crd::ResolvedSource {
        repo: Some("acme/tuned".into()),
        commit: Some(TUNED.into()),
        ..Default::default()
    });
    let root = tree(&"ftj/tune".parse().unwrap(), None, &world).unwrap();
    assert!(text(&root).lines().count() < 200);
}

#[test]
fn json_has_whole_commits_and_no_empty_fields() {
    let root = tree(&"ftj/tune".parse().unwrap(), None, &world()).unwrap();
    let json = serde_json::to_value(root).unwrap();
    assert_eq!(json["children"][0]["commit"], BASE);
    assert_eq!(json["children"][0]["relation"], "started from");
    assert!(json.get("relation").is_none() && json.get("commit").is_none());
}

#[test]
fn what_names_nothing_is_refused_with_what_to_write() {
    for wrong in ["web", "service/web", "pod/", "pod/a/b", ""] {
        let error = wrong.parse::<Start>().unwrap_err();
        assert!(error.contains("pod/NAME"), "{wrong}: {error}");
    }
}
