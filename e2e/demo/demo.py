"""The main job, from fine-tune to A/B split, on a real Kubernetes: every object is one of examples/, applied with kubectl."""

import collections
import json
import os
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import (  # noqa: E402
    CACHE, EXAMPLES, SYSTEM, apply, cluster_up, deploy_hub, get, install_operator, kubectl, make_namespace,
    port_forward, request, seed_hub, step, wait,
)

NAMESPACE = "models"
KINDS = [f"{kind}.slipway.dev" for kind in ("finetunejobs", "evalruns", "modeldeployments")]
REPORT: list[str] = []


def report(line: str) -> None:
    REPORT.append(line)


def finetune(name: str, file: str, timeout: float) -> None:
    with step(f"FineTuneJob {name}") as lines:
        apply(EXAMPLES / file)
        job = wait("finetunejob.slipway.dev", name, NAMESPACE, "Complete", timeout, lines)
    status = job["status"]
    metrics = ", ".join(f"{m['name']} {m['value']:.4f}" for m in status.get("metrics", []))
    output = status["output"]
    report(f"FineTuneJob {name}: {output['repo']}@{output['commit'][:10]} ({metrics})")


def evaluate() -> None:
    with step("EvalRun finance-sentiment") as lines:
        apply(EXAMPLES / "20-eval-sentiment.yaml")
        run = wait("evalrun.slipway.dev", "finance-sentiment", NAMESPACE, "Complete", 900, lines)
    status = run["status"]
    for result in status["results"]:
        interval = result["confidenceInterval"]
        report(f"EvalRun: {result['metric']} {result['value']:.4f} "
               f"[{interval['low']:.4f}, {interval['high']:.4f}], n = {result['examples']}")
    comparison = status["comparison"]
    interval = comparison["confidenceInterval"]
    report(f"EvalRun: {comparison['metric']} − baseline = {comparison['difference']:+.4f} "
           f"[{interval['low']:+.4f}, {interval['high']:+.4f}]; verdict {status['verdict']}; "
           f"recorded in {status['record']['repo']}@{status['record']['commit'][:10]}")


def deploy(name: str, file: str, title: str, timeout: float = 600) -> None:
    with step(f"ModelDeployment {title}") as lines:
        apply(EXAMPLES / file)
        wait("modeldeployment.slipway.dev", name, NAMESPACE, "Ready", timeout, lines, failed=None)


def split(url: str, requests: int, seed: int) -> collections.Counter:
    """Who answered `requests` requests of as many users."""
    answered = collections.Counter()
    texts = ["$AAPL beats expectations", "my phone died again @apple", "@apple opens a store", "short $AAPL now"]
    draw = random.Random(seed)
    for _ in range(requests):
        user = f"user-{draw.getrandbits(48):x}"
        status, headers, body = request(f"{url}/predict", {"inputs": draw.choice(texts)}, {"x-user-id": user})
        if status != 200:
            raise RuntimeError(f"a request was answered {status}: {body}")
        answered[headers["x-slipway-variant"]] += 1
    return answered


def traffic() -> None:
    deploy("finance-sentiment", "30-deployment-sentiment.yaml", "finance-sentiment at 50/50")
    with port_forward(NAMESPACE, "service/finance-sentiment", 80) as url:
        with step("500 requests at 50/50"):
            half = split(url, 500, 1)
        report(f"Split at 50/50, 500 users: {dict(half)}")
        deploy("finance-sentiment", "31-deployment-sentiment-80-20.yaml", "finance-sentiment at 80/20")
        with step("1,000 requests at 80/20"):
            most = split(url, 1000, 2)
        report(f"Split at 80/20, 1,000 users: {dict(most)}")
        with step("the same user always meets the same variant"):
            for user in range(20):
                met = {request(f"{url}/predict", {"inputs": "hello"}, {"x-user-id": f"u{user}"})[1]["x-slipway-variant"]
                       for _ in range(5)}
                if len(met) != 1:
                    raise RuntimeError(f"user u{user} met {met}")
        report("20 users × 5 requests: each met one variant only")


def chat() -> None:
    import openai

    finetune("smollm2-alpaca", "40-finetune-chat.yaml", 2400)
    deploy("smollm2", "41-deployment-chat.yaml", "smollm2 with its adapter")
    with port_forward(NAMESPACE, "service/smollm2", 80) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300)
        names = [model.id for model in client.models.list()]
        for model in names:
            print(f"   {model}: ", end="", flush=True)
            text = ""
            stream = client.chat.completions.create(
                model=model, max_tokens=48, temperature=0, stream=True,
                messages=[{"role": "user", "content": "Give three tips for staying healthy."}])
            for chunk in stream:
                piece = chunk.choices[0].delta.content or "" if chunk.choices else ""
                text += piece
                print(piece.replace("\n", " "), end="", flush=True)
            print()
            if not text.strip():
                raise RuntimeError(f"{model} streamed an empty answer")
            report(f"Chat, streamed, {model}: {' '.join(text.split())[:100]}…")


def card(hub: str) -> None:
    with step("the model card on the Hub"):
        info = request(f"{hub}/api/models/acme/finance-sentiment")[2]
        results = (info.get("cardData") or {}).get("model-index") or info.get("model-index")
        if not results:
            raise RuntimeError("the card has no model-index")
        files = sorted(entry["rfilename"] for entry in info["siblings"])
    metrics = [metric for result in results[0]["results"] for metric in result["metrics"]]
    report("Card of acme/finance-sentiment: " + ", ".join(f"{m['type']} {m['value']}" for m in metrics))
    report("Files: " + ", ".join(files))


def main() -> None:
    start = time.monotonic()
    with step("cluster, images"):
        os.environ["KUBECONFIG"] = cluster_up()
    with step("test Hub"):
        deploy_hub()
    with step("operator (Helm)"):
        install_operator()
    with port_forward("hub", "service/hub", 80) as hub:
        with step("models and data pushed to the Hub"):
            seed_hub(hub)
        apply(EXAMPLES / "00-namespace.yaml")
        make_namespace(NAMESPACE)
        fresh()
        finetune("finance-sentiment", "10-finetune-sentiment.yaml", 1800)
        finetune("finance-baseline", "11-finetune-baseline.yaml", 900)
        evaluate()
        card(hub)
        traffic()
        chat()
    print("\n" + kubectl("get", ",".join(KINDS), "-n", NAMESPACE))
    print("Report")
    for line in REPORT:
        print(f"  {line}")
    minutes, seconds = divmod(int(time.monotonic() - start), 60)
    print(f"  {minutes}:{seconds:02} from cluster to report")
    print(f"\nLook around: export KUBECONFIG={os.environ['KUBECONFIG']}; kubectl get slipway -n {NAMESPACE}; "
          "make cluster-down ends it.")


def fresh() -> None:
    """Removes what an earlier run of the demo left, so that the whole way is shown again."""
    # By their full names: kubectl asks for kinds that it does not know anew, and for categories it does not.
    left = json.loads(kubectl("get", ",".join(KINDS), "-n", NAMESPACE, "-o", "json"))["items"]
    if left:
        with step("objects of an earlier run removed"):
            kubectl("delete", ",".join(KINDS), "--all",
                    "-n", NAMESPACE, "--cascade=foreground", "--timeout=180s")


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, TimeoutError) as error:
        print(f"\nThe demo stopped: {error}\nEvery command and its answer: {CACHE / 'logs' / 'commands.log'}\n"
              f"The operator's log: kubectl logs -n {SYSTEM} deployment/slipway", file=sys.stderr)
        sys.exit(1)
