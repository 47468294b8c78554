package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"slipway.dev/e2e/hub/internal/git"
)

// The values of X-Error-Code by which clients tell failures apart.
const (
	codeRepoNotFound     = "RepoNotFound"
	codeRevisionNotFound = "RevisionNotFound"
	codeEntryNotFound    = "EntryNotFound"
	codeGatedRepo        = "GatedRepo"
)

// apiError is a failure the client is told about.
type apiError struct {
	status  int
	code    string // X-Error-Code, may be empty
	message string
	extra   map[string]any // further fields of the JSON body
}

func (e *apiError) Error() string { return e.message }

func fail(status int, format string, args ...any) *apiError {
	return &apiError{status: status, message: fmt.Sprintf(format, args...)}
}

func failCode(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// asAPIError gives errors of the layers below their HTTP meaning.
func asAPIError(err error) *apiError {
	var api *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &api):
		return api
	case errors.Is(err, git.ErrRevisionNotFound):
		return failCode(http.StatusNotFound, codeRevisionNotFound, "Revision not found: no branch, tag or commit has that name")
	case errors.Is(err, git.ErrEntryNotFound):
		return failCode(http.StatusNotFound, codeEntryNotFound, "Entry not found: %s", err)
	case errors.Is(err, git.ErrBadName):
		return fail(http.StatusBadRequest, "Invalid name: %s", err)
	case errors.Is(err, git.ErrRefMoved):
		return errStaleParent()
	case errors.As(err, &tooLarge):
		return fail(http.StatusRequestEntityTooLarge, "The request is larger than %d bytes", tooLarge.Limit)
	default:
		return nil
	}
}

// errStaleParent says it in the words of the Hub, which clients look for.
func errStaleParent() *apiError {
	return fail(http.StatusPreconditionFailed, "A commit has happened since. Please refresh and try again.")
}

// writeError answers with the headers and the JSON body clients read. What is not meant
// for the client is answered as a plain 500 and returned for the log.
func writeError(w http.ResponseWriter, err error) (internal error) {
	api := asAPIError(err)
	if api == nil {
		api, internal = fail(http.StatusInternalServerError, "Internal error: see the server's log"), err
	}
	header := w.Header()
	for _, name := range []string{"Etag", "Content-Length", "Content-Disposition", "Link"} {
		header.Del(name)
	}
	if api.code != "" {
		header.Set("X-Error-Code", api.code)
	}
	header.Set("X-Error-Message", headerText(api.message))
	body := map[string]any{"error": api.message}
	for key, value := range api.extra {
		body[key] = value
	}
	writeJSON(w, api.status, body)
	return internal
}

// headerText replaces what a header line can't hold.
func headerText(text string) string {
	safe := []rune(text)
	for i, c := range safe {
		if c < ' ' || c > '~' {
			safe[i] = ' '
		}
	}
	return string(safe)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// A client that left is no error of ours.
	_ = json.NewEncoder(w).Encode(body)
}
