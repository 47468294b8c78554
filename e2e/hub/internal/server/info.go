package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"

	"slipway.dev/e2e/hub/internal/card"
	"slipway.dev/e2e/hub/internal/git"
	"slipway.dev/e2e/hub/internal/lfs"
)

// maxMetadataFile is up to how many bytes of a card or config are read for repo info.
const maxMetadataFile = 4 << 20

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func (s *Server) repoInfo(c *call, repo *repository, rest []string) error {
	revision, rest := takeRevision(rest)
	if len(rest) > 0 {
		return errNoRoute
	}
	info, err := s.describe(c, repo, revision, c.flag("blobs"))
	if err != nil {
		return err
	}
	c.json(http.StatusOK, expanded(info, c.query["expand"]))
	return nil
}

// expanded keeps only the named fields besides the id, when any are named.
func expanded(info map[string]any, fields []string) map[string]any {
	if len(fields) == 0 {
		return info
	}
	kept := map[string]any{"_id": info["_id"], "id": info["id"]}
	for _, list := range fields {
		for field := range strings.SplitSeq(list, ",") {
			if value, ok := info[field]; ok {
				kept[field] = value
			}
		}
	}
	return kept
}

// describe gathers what the Hub says of a repository at a revision.
func (s *Server) describe(c *call, repo *repository, revision string, withBlobs bool) (map[string]any, error) {
	ctx := c.r.Context()
	commit, err := repo.git.Resolve(ctx, revision)
	if err != nil {
		return nil, err
	}
	history, err := repo.git.Log(ctx, commit, 0, 1, "")
	if err != nil {
		return nil, err
	}
	files, err := repo.files(ctx, commit, "", true)
	if err != nil {
		return nil, err
	}
	siblings := []map[string]any{}
	var used int64
	for _, file := range files {
		if file.Dir {
			continue
		}
		sibling := map[string]any{"rfilename": file.Path}
		used += file.contentSize()
		if withBlobs {
			sibling["blobId"], sibling["size"] = file.ID, file.contentSize()
			if file.pointer != nil {
				sibling["lfs"] = map[string]any{"sha256": file.pointer.OID, "size": file.pointer.Size, "pointerSize": file.Size}
			}
		}
		siblings = append(siblings, sibling)
	}
	info := map[string]any{
		"_id": repoID(repo.repoKey), "id": repo.id(), "author": repo.namespace, "sha": commit,
		"private": repo.settings.Private, "gated": gatedJSON(repo), "disabled": false,
		"createdAt": timestamp(repo.settings.CreatedAt), "lastModified": timestamp(history[0].Date),
		"downloads": 0, "likes": 0, "siblings": siblings, "usedStorage": used,
	}
	if repo.kind == "models" {
		info["modelId"] = repo.id()
	}
	return info, repo.addMetadata(ctx, info, files)
}

// addMetadata adds what the card and other files of a repository say about it.
func (r *repository) addMetadata(ctx context.Context, info map[string]any, files []file) error {
	byPath := map[string]file{}
	var results []file
	for _, f := range files {
		if f.Dir || f.pointer != nil || f.Size > maxMetadataFile {
			continue
		}
		byPath[f.Path] = f
		if directory, name := path.Split(f.Path); directory == ".eval_results/" && (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) {
			results = append(results, f)
		}
	}
	var wanted []string
	for _, f := range append(results, byPath["README.md"], byPath["config.json"], byPath["adapter_config.json"]) {
		if f.ID != "" {
			wanted = append(wanted, f.ID)
		}
	}
	contents, err := r.git.Blobs(ctx, wanted)
	if err != nil {
		return err
	}
	// A card that git push brought in may be broken; the repository is still described.
	metadata, _ := card.Parse(string(contents[byPath["README.md"].ID]))
	tags := card.Tags(metadata)
	if metadata != nil {
		info["cardData"] = metadata
	}
	if index, ok := metadata["model-index"]; ok {
		info["model-index"] = index
	}
	if tag, ok := metadata["pipeline_tag"].(string); ok {
		info["pipeline_tag"] = tag
	}
	_, adapter := byPath["adapter_config.json"]
	config := modelConfig(contents[byPath["config.json"].ID])
	if config != nil && r.kind == "models" {
		info["config"] = config
	}
	library, ok := metadata["library_name"].(string)
	if !ok && r.kind == "models" {
		if adapter {
			library = "peft"
		} else if config["model_type"] != nil {
			library = "transformers"
		}
		if library != "" {
			tags = append(tags, library)
		}
	}
	if library != "" {
		info["library_name"] = library
	}
	info["tags"] = tags
	evaluations := []any{}
	for _, f := range results {
		entries, err := card.ParseEvalResults(contents[f.ID])
		if err != nil {
			evaluations = append(evaluations, map[string]any{"filename": f.Path, "error": err.Error()})
			continue
		}
		for _, entry := range entries {
			evaluations = append(evaluations, map[string]any{"filename": f.Path, "data": entry})
		}
	}
	if len(evaluations) > 0 {
		info["evalResults"] = evaluations
	}
	return nil
}

// modelConfig is the part of config.json that the Hub repeats in repo info.
func modelConfig(content []byte) map[string]any {
	var full map[string]any
	if len(content) == 0 || json.NewDecoder(bytes.NewReader(content)).Decode(&full) != nil {
		return nil
	}
	kept := map[string]any{}
	for _, key := range []string{"architectures", "model_type", "quantization_config"} {
		if value, ok := full[key]; ok {
			kept[key] = value
		}
	}
	return kept
}

// file is an entry of a commit, with the LFS object it points to, if it does.
type file struct {
	git.Entry
	pointer *lfs.Pointer
}

// contentSize is the size in bytes of what a download of the file gives.
func (f file) contentSize() int64 {
	if f.pointer != nil {
		return f.pointer.Size
	}
	return f.Size
}

// etag is what identifies the content: the sha256 of an LFS object, else the git blob id.
func (f file) etag() string {
	if f.pointer != nil {
		return f.pointer.OID
	}
	return f.ID
}

// files lists a folder of a commit with pointers read.
func (r *repository) files(ctx context.Context, commit, folder string, recursive bool) ([]file, error) {
	entries, err := r.git.Tree(ctx, commit, folder, recursive)
	if err != nil {
		return nil, err
	}
	return r.withPointers(ctx, entries)
}

func (r *repository) withPointers(ctx context.Context, entries []git.Entry) ([]file, error) {
	var candidates []string
	for _, entry := range entries {
		if !entry.Dir && lfs.MaybePointer(entry.Size) {
			candidates = append(candidates, entry.ID)
		}
	}
	contents, err := r.git.Blobs(ctx, candidates)
	if err != nil {
		return nil, err
	}
	files := make([]file, len(entries))
	for i, entry := range entries {
		files[i].Entry = entry
		if pointer, ok := lfs.ParsePointer(contents[entry.ID]); ok {
			files[i].pointer = &pointer
		}
	}
	return files, nil
}
