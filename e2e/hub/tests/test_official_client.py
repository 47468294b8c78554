"""The official Python client is the judge of the Hub: what it does on huggingface.co it must do here."""

import base64
import hashlib
import json
import os
import subprocess

import pytest

pytestmark = pytest.mark.timeout(180)


def random_file(path, size):
    """Write size random bytes in pieces and return their sha256."""
    digest = hashlib.sha256()
    with open(path, "wb") as out:
        while size > 0:
            piece = os.urandom(min(size, 1 << 20))
            out.write(piece)
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


def sha256_of(path):
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def test_whoami(owner):
    me = owner.whoami()
    assert me["name"] == "owner"
    assert [org["name"] for org in me["orgs"]] == ["acme"]


def test_invalid_token_is_refused(hf, hub):
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        hf.HfApi(token="hf_wrong").whoami()
    assert error.value.response.status_code == 401


def test_create_repo_again(owner, hf, repo, hub):
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        owner.create_repo(repo)
    assert error.value.response.status_code == 409
    url = owner.create_repo(repo, exist_ok=True)
    assert url == f"{hub.endpoint}/{repo}"
    assert url.repo_id == repo


def test_new_repo_has_the_initial_commit(owner, repo):
    info = owner.model_info(repo)
    assert [s.rfilename for s in info.siblings] == [".gitattributes"]
    assert [c.title for c in owner.list_repo_commits(repo)] == ["initial commit"]


def test_namespaces_of_others_are_refused(other, hf, repo):
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        other.create_repo("acme/intruder")
    assert error.value.response.status_code == 403
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        other.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo)
    assert error.value.response.status_code == 403
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        other.delete_repo(repo)
    assert error.value.response.status_code == 403


def test_upload_and_download(owner, hf, repo, tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    expected = {
        "small.txt": random_file(folder / "small.txt", 0),
        "sub/kilobyte.bin": random_file(folder / "sub" / "kilobyte.bin", 1024),
        "model.safetensors": random_file(folder / "model.safetensors", 100 << 20),
    }
    (folder / "small.txt").write_text("small\n" * 170)
    expected["small.txt"] = sha256_of(folder / "small.txt")
    commit = owner.upload_folder(repo_id=repo, folder_path=folder, commit_message="add the model")
    assert len(commit.oid) == 40

    local = hf.snapshot_download(repo, revision=commit.oid, token="hf_owner", cache_dir=tmp_path / "cache")
    assert {path: sha256_of(f"{local}/{path}") for path in expected} == expected

    tree = {entry.path: entry for entry in owner.list_repo_tree(repo, recursive=True)}
    assert tree["model.safetensors"].lfs.sha256 == expected["model.safetensors"]
    assert tree["model.safetensors"].size == 100 << 20
    assert tree["small.txt"].lfs is None
    assert type(tree["sub"]).__name__ == "RepoFolder"


def test_large_uploads_are_not_held_in_memory(owner, hub, repo, tmp_path):
    random_file(tmp_path / "big.bin", 100 << 20)
    owner.upload_file(path_or_fileobj=tmp_path / "big.bin", path_in_repo="big.bin", repo_id=repo)
    with open(f"/proc/{hub.process.pid}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    assert peak < 80 << 10, f"the Hub's peak memory was {peak} KiB"


def test_second_upload_of_the_same_makes_no_commit(owner, hub, repo, tmp_path):
    random_file(tmp_path / "weights.bin", 4096)
    first = owner.upload_folder(repo_id=repo, folder_path=tmp_path)
    uploads = hub.count("PUT /_lfs/")
    second = owner.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert second.oid == first.oid
    assert hub.count("PUT /_lfs/") == uploads


def test_second_download_comes_from_the_cache(hf, owner, hub, repo, tmp_path):
    owner.upload_file(path_or_fileobj=os.urandom(2048), path_in_repo="weights.bin", repo_id=repo)
    download = lambda: hf.hf_hub_download(repo, "weights.bin", token="hf_owner", cache_dir=tmp_path)
    first = download()
    fetched = hub.count("GET /_lfs/")
    assert download() == first
    assert hub.count("GET /_lfs/") == fetched


@pytest.mark.parametrize("name", ["notes.txt", "weights.bin"])
def test_dropped_download_resumes(hf, owner, hub, repo, tmp_path, name):
    content = os.urandom(3 << 20) if name.endswith(".bin") else b"line of text\n" * 250_000
    owner.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repo)
    hub.inject(match=rf"^GET .*{name}", dropAfterBytes=1 << 20)
    path = hf.hf_hub_download(repo, name, token="hf_owner", cache_dir=tmp_path)
    assert hub.pending_faults() == [], "the connection was not cut"
    with open(path, "rb") as downloaded:
        assert downloaded.read() == content


def test_dropped_upload_leaves_nothing(hf, owner, hub, repo):
    content = os.urandom(4 << 20)
    oid = hashlib.sha256(content).hexdigest()
    hub.inject(match="^PUT /_lfs/", dropRequestAfterBytes=1 << 20, times=1)
    owner.upload_file(path_or_fileobj=content, path_in_repo="weights.bin", repo_id=repo)
    assert hub.pending_faults() == []
    assert not list(hub.data.glob(f"repos/models/{repo}.git/lfs/incoming/*"))
    stored = hub.data / f"repos/models/{repo}.git/lfs/objects/{oid[:2]}/{oid[2:4]}/{oid}"
    assert sha256_of(stored) == oid


def test_server_errors_are_retried(owner, hub, repo):
    hub.inject(match="^PUT /_lfs/", status=503)
    owner.upload_file(path_or_fileobj=os.urandom(1000), path_in_repo="weights.bin", repo_id=repo)
    assert hub.pending_faults() == []
    assert owner.file_exists(repo, "weights.bin")


@pytest.mark.parametrize("name", ["text.txt", "weights.bin"])
def test_range_and_conditional_requests(owner, hub, repo, name):
    content = bytes(range(256)) * 4 if name.endswith(".bin") else b"0123456789" * 100
    owner.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repo)
    path = f"/{repo}/resolve/main/{name}"
    status, headers, body = hub.ask("GET", path, headers={"Range": "bytes=10-19"})
    assert (status, body, headers["Content-Range"]) == (206, content[10:20], f"bytes 10-19/{len(content)}")
    status, headers, body = hub.ask("GET", path, headers={"Range": "bytes=990-"})
    assert (status, body) == (206, content[990:])
    status, headers, _ = hub.ask("GET", path, headers={"Range": f"bytes={len(content)}-"})
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(content)}")
    status, headers, _ = hub.ask("HEAD", path)
    assert status == 200 and int(headers["Content-Length"]) == len(content)
    assert len(headers["X-Repo-Commit"]) == 40
    etag = hashlib.sha256(content).hexdigest() if name.endswith(".bin") else hashlib.sha1(b"blob 1000\0" + content).hexdigest()
    assert headers["ETag"] == f'"{etag}"'
    status, _, body = hub.ask("GET", path, headers={"If-None-Match": f'"{etag}"'})
    assert (status, body) == (304, b"")


def test_branches_and_tags(owner, hf, repo):
    owner.create_branch(repo, branch="feature/one")
    owner.upload_file(path_or_fileobj=b"on the branch", path_in_repo="x.txt", repo_id=repo, revision="feature/one")
    assert not owner.file_exists(repo, "x.txt")
    assert owner.file_exists(repo, "x.txt", revision="feature/one")
    owner.create_tag(repo, tag="v1", revision="feature/one", tag_message="first release")
    owner.create_tag(repo, tag="light")
    refs = owner.list_repo_refs(repo, include_pull_requests=True)
    assert sorted(b.name for b in refs.branches) == ["feature/one", "main"]
    assert {t.name: t.target_commit for t in refs.tags} == {
        "v1": owner.model_info(repo, revision="feature/one").sha,
        "light": owner.model_info(repo).sha,
    }
    for again in (lambda: owner.create_branch(repo, branch="feature/one"), lambda: owner.create_tag(repo, tag="v1")):
        with pytest.raises(hf.errors.HfHubHTTPError) as error:
            again()
        assert error.value.response.status_code == 409
    owner.create_tag(repo, tag="v1", exist_ok=True)
    owner.delete_branch(repo, branch="feature/one")
    owner.delete_tag(repo, tag="v1")
    with pytest.raises(hf.errors.RevisionNotFoundError):
        owner.model_info(repo, revision="v1")
    with pytest.raises(hf.errors.HfHubHTTPError):
        owner.create_branch(repo, branch="bad..name")


def test_missing_things_are_told_apart(owner, hf, repo):
    with pytest.raises(hf.errors.RepositoryNotFoundError):
        owner.model_info("acme/nothing")
    with pytest.raises(hf.errors.RevisionNotFoundError):
        owner.model_info(repo, revision="nothing")
    with pytest.raises(hf.errors.RevisionNotFoundError):
        hf.hf_hub_download(repo, "README.md", revision="nothing", token="hf_owner")
    with pytest.raises(hf.errors.EntryNotFoundError):
        hf.hf_hub_download(repo, "nothing.txt", token="hf_owner")
    with pytest.raises(hf.errors.EntryNotFoundError):
        list(owner.list_repo_tree(repo, "nothing"))
    assert owner.get_paths_info(repo, ["nothing", ".gitattributes"])[0].path == ".gitattributes"


def test_stale_parent_commit(owner, hf, repo):
    before = owner.model_info(repo).sha
    owner.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=repo, parent_commit=before)
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        owner.upload_file(path_or_fileobj=b"2", path_in_repo="a.txt", repo_id=repo, parent_commit=before)
    assert error.value.response.status_code == 412
    assert "A commit has happened since" in str(error.value)


def test_delete_and_copy(owner, hf, repo):
    owner.create_commit(
        repo,
        operations=[
            hf.CommitOperationAdd("old/a.txt", b"a"),
            hf.CommitOperationAdd("old/b.txt", b"b"),
            hf.CommitOperationAdd("weights.bin", os.urandom(600)),
        ],
        commit_message="add",
    )
    owner.create_commit(
        repo,
        operations=[
            hf.CommitOperationDelete("old/"),
            hf.CommitOperationCopy("weights.bin", "copy.bin"),
            hf.CommitOperationDelete("weights.bin"),
        ],
        commit_message="rename",
    )
    assert sorted(owner.list_repo_files(repo)) == [".gitattributes", "copy.bin"]
    with pytest.raises(hf.errors.EntryNotFoundError):
        owner.delete_file("nothing.txt", repo)


def test_binary_files_without_a_pattern_go_to_lfs(owner, repo):
    owner.upload_file(path_or_fileobj=b"\0\1\2" * 100, path_in_repo="dir/odd [name].xyz", repo_id=repo)
    (info,) = owner.get_paths_info(repo, ["dir/odd [name].xyz"])
    assert info.lfs is not None
    again = owner.upload_file(path_or_fileobj=b"\0\1\3" * 100, path_in_repo="dir/odd [name].xyz", repo_id=repo)
    assert owner.list_repo_commits(repo)[0].commit_id == again.oid
    attributes = open(owner.hf_hub_download(repo, ".gitattributes", token="hf_owner")).read()
    assert attributes.count(".xyz filter=lfs") == 1


def test_gitignore_is_honoured(owner, repo, tmp_path):
    owner.upload_file(path_or_fileobj=b"*.log\n", path_in_repo=".gitignore", repo_id=repo)
    (tmp_path / "run.log").write_text("log")
    (tmp_path / "run.txt").write_text("text")
    owner.upload_folder(repo_id=repo, folder_path=tmp_path)
    assert sorted(owner.list_repo_files(repo)) == [".gitattributes", ".gitignore", "run.txt"]


def test_squash_history(owner, repo):
    for i in range(3):
        owner.upload_file(path_or_fileobj=str(i).encode(), path_in_repo=f"{i}.txt", repo_id=repo)
    files = sorted(owner.list_repo_files(repo))
    assert len(owner.list_repo_commits(repo)) == 4
    owner.super_squash_history(repo)
    assert len(owner.list_repo_commits(repo)) == 1
    assert sorted(owner.list_repo_files(repo)) == files


def test_pages_of_commits_and_files(owner, hf, repo):
    owner.create_commit(
        repo,
        operations=[hf.CommitOperationAdd(f"many/{i:04}.txt", str(i).encode()) for i in range(120)],
        commit_message="many files",
    )
    for i in range(55):
        owner.create_commit(repo, operations=[hf.CommitOperationAdd("n.txt", str(i).encode())], commit_message=f"n={i}")
    assert len(owner.list_repo_commits(repo)) == 57
    entries = list(owner.list_repo_tree(repo, "many", expand=True))
    assert len(entries) == 120
    assert entries[0].last_commit.title == "many files"


def test_pull_request_from_a_commit(owner, other, repo):
    commit = other.upload_file(
        path_or_fileobj=b"better", path_in_repo="notes.txt", repo_id=repo, create_pr=True,
        commit_message="Better notes", commit_description="They were worse.",
    )
    assert commit.pr_num == 1 and commit.pr_revision == "refs/pr/1"
    details = owner.get_discussion_details(repo, 1)
    assert (details.status, details.author, details.title) == ("open", "other", "Better notes")
    assert details.is_pull_request and details.target_branch == "refs/heads/main"
    assert "+better" in details.diff
    assert [e.type for e in details.events] == ["comment", "commit"]
    assert details.conflicting_files == []
    assert not owner.file_exists(repo, "notes.txt")
    assert owner.file_exists(repo, "notes.txt", revision="refs/pr/1")

    other.upload_file(path_or_fileobj=b"best", path_in_repo="notes.txt", repo_id=repo, revision="refs/pr/1")
    comment = owner.comment_discussion(repo, 1, "Thank you")
    assert comment.content == "Thank you"
    owner.rename_discussion(repo, 1, "The best notes")
    owner.merge_pull_request(repo, 1, comment="Merging")
    merged = owner.get_discussion_details(repo, 1)
    assert merged.status == "merged"
    assert merged.merge_commit_oid == owner.model_info(repo).sha
    with open(owner.hf_hub_download(repo, "notes.txt", token="hf_owner")) as notes:
        assert notes.read() == "best"
    refs = owner.list_repo_refs(repo, include_pull_requests=True)
    assert [r.ref for r in refs.pull_requests] == ["refs/pr/1"]


def test_draft_pull_request(owner, other, hf, repo):
    pr = owner.create_pull_request(repo, title="Draft", description="soon")
    assert pr.status == "draft" and pr.git_reference == "refs/pr/1"
    owner.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision="refs/pr/1")
    with pytest.raises(hf.errors.HfHubHTTPError):
        owner.merge_pull_request(repo, 1)
    owner.change_discussion_status(repo, 1, "open")
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        other.merge_pull_request(repo, 1)
    assert error.value.response.status_code == 403
    owner.merge_pull_request(repo, 1)
    assert owner.file_exists(repo, "x.txt")


def test_conflicting_pull_request(owner, hf, repo):
    owner.upload_file(path_or_fileobj=b"base\n", path_in_repo="a.txt", repo_id=repo)
    owner.upload_file(path_or_fileobj=b"theirs\n", path_in_repo="a.txt", repo_id=repo, create_pr=True)
    owner.upload_file(path_or_fileobj=b"ours\n", path_in_repo="a.txt", repo_id=repo)
    assert owner.get_discussion_details(repo, 1).conflicting_files == ["a.txt"]
    with pytest.raises(hf.errors.HfHubHTTPError) as error:
        owner.merge_pull_request(repo, 1)
    assert error.value.response.status_code == 409
    owner.change_discussion_status(repo, 1, "closed", comment="not this time")
    assert owner.get_discussion_details(repo, 1).status == "closed"


def test_discussions(owner, other, repo):
    other.create_discussion(repo, title="Question", description="Why?")
    owner.create_pull_request(repo, title="Answer")
    assert [(d.num, d.title) for d in owner.get_repo_discussions(repo)] == [(2, "Answer"), (1, "Question")]
    assert [d.num for d in owner.get_repo_discussions(repo, discussion_type="discussion")] == [1]
    assert [d.num for d in owner.get_repo_discussions(repo, author="other")] == [1]


def test_private_repo_is_hidden(owner, other, anonymous, hf, hub, repo):
    owner.upload_file(path_or_fileobj=b"secret", path_in_repo="secret.txt", repo_id=repo)
    assert anonymous.model_info(repo).private is False
    owner.update_repo_settings(repo, private=True)
    for stranger in (other, anonymous):
        with pytest.raises(hf.errors.RepositoryNotFoundError):
            stranger.model_info(repo)
        with pytest.raises(hf.errors.RepositoryNotFoundError):
            stranger.hf_hub_download(repo, "secret.txt")
        assert repo not in [m.id for m in stranger.list_models(author="acme")]
    assert owner.model_info(repo).private is True
    assert repo in [m.id for m in owner.list_models(author="acme")]
    assert hub.ask("GET", f"/api/models/{repo}")[0] == 401
    assert hub.ask("GET", f"/api/models/{repo}", token="hf_other")[0] == 404


def test_gated_repo(owner, other, anonymous, hf, hub, repo, tmp_path):
    owner.upload_file(path_or_fileobj=b"gated", path_in_repo="x.txt", repo_id=repo)
    owner.update_repo_settings(repo, gated="manual")
    assert other.model_info(repo).gated == "manual"
    for stranger in (other, anonymous):
        with pytest.raises(hf.errors.GatedRepoError):
            stranger.hf_hub_download(repo, "x.txt", cache_dir=tmp_path / "no")
        with pytest.raises(hf.errors.GatedRepoError):
            stranger.auth_check(repo)
    assert hub.ask("GET", f"/{repo}/resolve/main/x.txt", token="hf_other")[0] == 403
    owner.grant_access(repo, user="other")
    other.auth_check(repo)
    assert other.hf_hub_download(repo, "x.txt", cache_dir=tmp_path / "yes")


def test_move_and_delete(owner, hf, repo):
    owner.upload_file(path_or_fileobj=os.urandom(500), path_in_repo="w.bin", repo_id=repo)
    owner.move_repo(repo, "owner/moved")
    assert owner.hf_hub_download("owner/moved", "w.bin")
    owner.delete_repo("owner/moved")
    with pytest.raises(hf.errors.RepositoryNotFoundError):
        owner.model_info("owner/moved")
    owner.create_repo("owner/moved")
    assert owner.list_repo_files("owner/moved") == [".gitattributes"]
    owner.delete_repo("owner/moved")


def test_model_card_and_metadata(owner, hf, repo, tmp_path):
    card = hf.ModelCard(
        "---\nlicense: apache-2.0\nlibrary_name: peft\npipeline_tag: text-classification\ntags: [lora]\n"
        "base_model: acme/base\n---\n\n# Prose of a person\n"
    )
    card.push_to_hub(repo, token="hf_owner")
    info = owner.model_info(repo)
    assert (info.library_name, info.pipeline_tag) == ("peft", "text-classification")
    assert {"lora", "license:apache-2.0", "base_model:acme/base"} <= set(info.tags)
    assert info.card_data.license == "apache-2.0"
    result = hf.EvalResult(
        task_type="text-classification", dataset_type="acme/tweets", dataset_name="tweets",
        metric_type="accuracy", metric_value=0.75,
    )
    hf.metadata_update(
        repo, {"model-index": hf.repocard_data.eval_results_to_model_index("sentiment", [result])}, token="hf_owner"
    )
    info = owner.model_info(repo)
    assert info.model_index[0]["results"][0]["metrics"][0]["value"] == 0.75
    assert "# Prose of a person" in hf.ModelCard.load(repo, token="hf_owner").text


def test_invalid_card_is_refused(owner, hub, hf, repo):
    bad = b"---\ntags: [unclosed\n---\n"
    with pytest.raises(ValueError, match="YAML"):
        owner.upload_file(path_or_fileobj=bad, path_in_repo="README.md", repo_id=repo)
    lines = [
        {"key": "header", "value": {"summary": "bad card"}},
        {"key": "file", "value": {"path": "README.md", "encoding": "base64", "content": base64.b64encode(bad).decode()}},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    status, _, answer = hub.ask("POST", f"/api/models/{repo}/commit/main", body, token="hf_owner")
    assert status == 400 and b"README.md" in answer


def test_eval_results(owner, hf, repo):
    import yaml

    entry = hf.EvalResultEntry(dataset_id="acme/tweets", task_id="default", value=0.75, date="2026-01-02")
    text = yaml.dump(hf.eval_result_entries_to_yaml([entry]))
    owner.upload_file(path_or_fileobj=text.encode(), path_in_repo=".eval_results/tweets.yaml", repo_id=repo)
    info = owner.model_info(repo, expand=["evalResults"])
    assert [(e.dataset_id, e.value) for e in info.eval_results] == [("acme/tweets", 0.75)]


def test_dataset_repo(owner, hf, tmp_path):
    owner.create_repo("acme/rows", repo_type="dataset", private=True)
    try:
        content = os.urandom(5000)
        owner.upload_file(path_or_fileobj=content, path_in_repo="data/train.parquet", repo_id="acme/rows", repo_type="dataset")
        hf.DatasetCard("---\nlicense: mit\ntask_categories: [text-classification]\n---\n# Rows\n").push_to_hub(
            "acme/rows", token="hf_owner"
        )
        info = owner.dataset_info("acme/rows", files_metadata=True)
        assert info.private and "task_categories:text-classification" in info.tags
        sizes = {s.rfilename: s.size for s in info.siblings}
        assert sizes["data/train.parquet"] == 5000
        path = owner.hf_hub_download("acme/rows", "data/train.parquet", repo_type="dataset", cache_dir=tmp_path)
        with open(path, "rb") as downloaded:
            assert downloaded.read() == content
        assert [d.id for d in owner.list_datasets(author="acme", search="row")] == ["acme/rows"]
        assert "acme/rows" not in [m.id for m in owner.list_models(author="acme")]
    finally:
        owner.delete_repo("acme/rows", repo_type="dataset")


def test_file_system_interface(hf, owner, repo):
    fs = hf.HfFileSystem(token="hf_owner")
    with fs.open(f"{repo}/dir/notes.txt", "w") as out:
        out.write("written through fsspec")
    assert fs.glob(f"{repo}/**/*.txt") == [f"{repo}/dir/notes.txt"]
    assert fs.read_text(f"{repo}/dir/notes.txt") == "written through fsspec"


def git(*args, cwd=None):
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_LFS_SKIP_SMUDGE": "1"}
    identity = ["-c", "user.name=owner", "-c", "user.email=owner@example.com"]
    return subprocess.run(["git", *identity, *args], cwd=cwd, env=environment, capture_output=True, text=True)


def test_git_clone_and_push(owner, hub, repo, tmp_path):
    owner.update_repo_settings(repo, private=True)
    address = f"{hub.endpoint}/{repo}"
    assert git("clone", address, tmp_path / "anonymous").returncode != 0
    with_token = address.replace("://", "://owner:hf_owner@")
    cloned = git("clone", with_token, tmp_path / "clone")
    assert cloned.returncode == 0, cloned.stderr
    # Larger than http.postBuffer, so git sends it in chunks.
    (tmp_path / "clone" / "large.txt").write_text("".join(f"{os.urandom(30).hex()}\n" for _ in range(60_000)))
    git("add", ".", cwd=tmp_path / "clone")
    git("commit", "-m", "pushed with git", cwd=tmp_path / "clone")
    pushed = git("push", "origin", "main", cwd=tmp_path / "clone")
    assert pushed.returncode == 0, pushed.stderr
    assert owner.list_repo_commits(repo)[0].title == "pushed with git"
    as_other = git("push", address.replace("://", "://other:hf_other@"), "main", cwd=tmp_path / "clone")
    assert as_other.returncode != 0


def test_without_xet_the_token_addresses_are_missing(hub, repo):
    assert hub.ask("GET", f"/api/models/{repo}/xet-write-token/main", token="hf_owner")[0] == 404
