package server

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// gitServices are the two halves of git's smart HTTP protocol.
var gitServices = []string{"git-upload-pack", "git-receive-pack"}

// routeGit serves clones, fetches, pushes and LFS; handled is false for other addresses.
func (s *Server) routeGit(c *call, key repoKey, rest []string) (handled bool, err error) {
	address := c.r.Method + " " + strings.Join(rest, "/")
	var service string
	switch {
	case address == "POST info/lfs/objects/batch":
		repo, err := s.readable(c, key)
		if err != nil {
			return true, err
		}
		return true, s.lfsBatch(c, repo)
	case address == "GET info/refs" && slices.Contains(gitServices, c.query.Get("service")):
		service = c.query.Get("service")
	case address == "POST git-upload-pack" || address == "POST git-receive-pack":
		service = rest[0]
	default:
		return false, nil
	}
	repo, err := s.gitAccess(c, key, service)
	if err != nil {
		// Without this, git never asks its user for a token.
		if api := asAPIError(err); api != nil && api.status == http.StatusUnauthorized {
			c.w.Header().Set("WWW-Authenticate", `Basic realm="Hub"`)
		}
		return true, err
	}
	return true, s.runGitService(c, repo, service, c.r.Method == http.MethodGet)
}

func (s *Server) gitAccess(c *call, key repoKey, service string) (*repository, error) {
	repo, err := s.readable(c, key)
	if err != nil {
		return nil, err
	}
	if service == "git-receive-pack" {
		return repo, requireWrite(c, repo.namespace)
	}
	return repo, requireContent(c, repo)
}

var gitProtocol = regexp.MustCompile(`^version=[0-2]$`)

// runGitService runs upload-pack or receive-pack the way git http-backend does, but streams
// chunked request bodies too, which CGI can't.
func (s *Server) runGitService(c *call, repo *repository, service string, advertise bool) error {
	body := io.Reader(c.r.Body)
	if c.r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(c.r.Body)
		if err != nil {
			return fail(http.StatusBadRequest, "The body is not gzip: %s", err)
		}
		defer unzipped.Close()
		body = unzipped
	}
	if service == "git-receive-pack" && !advertise {
		defer s.repos.lock(repo.repoKey)()
	}
	var env []string
	if protocol := c.r.Header.Get("Git-Protocol"); gitProtocol.MatchString(protocol) {
		env = append(env, "GIT_PROTOCOL="+protocol)
	}
	args := []string{strings.TrimPrefix(service, "git-"), "--stateless-rpc"}
	kind := "result"
	if advertise {
		args, kind = append(args, "--advertise-refs"), "advertisement"
	}
	cmd := repo.git.Command(c.r.Context(), env, append(args, repo.git.Dir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if !advertise {
		cmd.Stdin = body
	}
	header := c.w.Header()
	header.Set("Content-Type", "application/x-"+service+"-"+kind)
	header.Set("Cache-Control", "no-cache, max-age=0, must-revalidate")
	if advertise {
		if _, err := io.WriteString(c.w, packetLine("# service="+service+"\n")+"0000"); err != nil {
			return nil
		}
	}
	cmd.Stdout = flushing{c.w}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) || c.r.Context().Err() != nil {
		// The client was told in git's own protocol, or has left.
		s.log.Debug("git service ended early", "service", service, "repo", repo.id(), "stderr", stderr.String())
		return nil
	}
	return err
}

func packetLine(text string) string {
	const digits = "0123456789abcdef"
	n := len(text) + 4
	return string([]byte{digits[n>>12&15], digits[n>>8&15], digits[n>>4&15], digits[n&15]}) + text
}

// flushing passes each piece of output on at once, so that git shows progress.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	_ = http.NewResponseController(f.w).Flush()
	return n, err
}
