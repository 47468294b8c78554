package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"slipway.dev/e2e/hub/internal/lfs"
)

const lfsMediaType = "application/vnd.git-lfs+json"

type lfsBatchRequest struct {
	Operation string   `json:"operation"`
	Transfers []string `json:"transfers"`
	HashAlgo  string   `json:"hash_algo"`
	Objects   []struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"objects"`
}

type lfsAction struct {
	Href string `json:"href"`
}

type lfsObject struct {
	OID           string               `json:"oid"`
	Size          int64                `json:"size"`
	Authenticated bool                 `json:"authenticated,omitempty"`
	Actions       map[string]lfsAction `json:"actions,omitempty"`
	Error         map[string]any       `json:"error,omitempty"`
}

// lfsBatch tells a client where to send or get objects. Only the basic transfer is offered.
func (s *Server) lfsBatch(c *call, repo *repository) error {
	var body lfsBatchRequest
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.HashAlgo != "" && body.HashAlgo != "sha256" {
		return fail(http.StatusConflict, "The hash algorithm %q is not supported: use sha256", body.HashAlgo)
	}
	if len(body.Transfers) > 0 && !slices.Contains(body.Transfers, "basic") {
		return fail(http.StatusUnprocessableEntity, "This Hub offers only the LFS transfer basic")
	}
	switch body.Operation {
	case "upload":
		// Whoever may open a pull request may upload for it; a commit decides what is kept.
		if c.account == nil {
			return fail(http.StatusUnauthorized, "Unauthorized: uploading needs a token")
		}
	case "download":
		if err := requireContent(c, repo); err != nil {
			return err
		}
	default:
		return fail(http.StatusUnprocessableEntity, "Unknown LFS operation %q: use upload or download", body.Operation)
	}
	answer := struct {
		Transfer string      `json:"transfer"`
		Objects  []lfsObject `json:"objects"`
	}{Transfer: "basic", Objects: []lfsObject{}}
	for _, wanted := range body.Objects {
		object := lfsObject{OID: wanted.OID, Size: wanted.Size}
		_, stored := repo.lfs.Size(wanted.OID)
		switch {
		case !lfs.ValidOID(wanted.OID) || wanted.Size < 0:
			object.Error = map[string]any{"code": http.StatusUnprocessableEntity, "message": "not a sha256 and a size"}
		case body.Operation == "download" && !stored:
			object.Error = map[string]any{"code": http.StatusNotFound, "message": "object does not exist"}
		case body.Operation == "download":
			object.Authenticated = true
			object.Actions = map[string]lfsAction{"download": {c.base + s.signer.sign(http.MethodGet, objectPath(repo.repoKey, wanted.OID), url.Values{}, s.now())}}
		case !stored:
			path := objectPath(repo.repoKey, wanted.OID)
			object.Authenticated = true
			object.Actions = map[string]lfsAction{
				"upload": {c.base + s.signer.sign(http.MethodPut, path, url.Values{"size": {strconv.FormatInt(wanted.Size, 10)}}, s.now())},
				"verify": {c.base + s.signer.sign(http.MethodPost, path, url.Values{}, s.now())},
			}
		}
		answer.Objects = append(answer.Objects, object)
	}
	c.w.Header().Set("Content-Type", lfsMediaType)
	c.w.WriteHeader(http.StatusOK)
	return json.NewEncoder(c.w).Encode(answer)
}

// receiveObject streams an upload to disk. Nothing is kept unless it is what the URL was signed for.
func (s *Server) receiveObject(c *call, repo *repository, oid string) error {
	size, err := strconv.ParseInt(c.query.Get("size"), 10, 64)
	if err != nil {
		return fail(http.StatusBadRequest, "The upload URL carries no size")
	}
	// A byte more than announced is enough to see that the content is not it.
	body := http.MaxBytesReader(c.w, c.r.Body, size+1)
	if err := repo.lfs.Put(oid, size, body); err != nil {
		if errors.Is(err, lfs.ErrMismatch) {
			return fail(http.StatusUnprocessableEntity, "The upload was not kept: %s", err)
		}
		if c.r.Context().Err() != nil || errors.Is(err, io.ErrUnexpectedEOF) {
			return fail(http.StatusBadRequest, "The upload ended early: %s", err)
		}
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) verifyObject(c *call, repo *repository) error {
	var body struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	size, ok := repo.lfs.Size(body.OID)
	if !ok {
		return fail(http.StatusNotFound, "The LFS object %s was not uploaded", body.OID)
	}
	if size != body.Size {
		return fail(http.StatusUnprocessableEntity, "The LFS object %s has %d bytes, not %d", body.OID, size, body.Size)
	}
	c.json(http.StatusOK, map[string]string{"message": fmt.Sprintf("%s is stored", body.OID)})
	return nil
}
