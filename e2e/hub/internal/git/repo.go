// Package git reads and writes one bare repository through git's plumbing commands.
//
// Every write goes through update-ref with the expected old value, so two writers
// (two commits, or a commit and a push) can never lose each other's work.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ZeroID stands for "no object" in ref updates and diffs.
const ZeroID = "0000000000000000000000000000000000000000"

// EmptyTreeID is the object id of a tree without entries.
const EmptyTreeID = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

var (
	// ErrRevisionNotFound means no branch, tag, ref or commit has that name.
	ErrRevisionNotFound = errors.New("revision not found")
	// ErrEntryNotFound means the commit has no file or folder at that path.
	ErrEntryNotFound = errors.New("entry not found")
	// ErrRefMoved means the ref no longer has the value the caller expected.
	ErrRefMoved = errors.New("ref moved")
	// ErrBadName means git refuses the name as a branch or tag.
	ErrBadName = errors.New("not a valid ref name")
)

// Repo is a bare repository on disk.
type Repo struct {
	Dir string
}

// Person is the author and committer written into commits and tags.
type Person struct {
	Name  string
	Email string
}

// Init creates an empty bare repository whose HEAD is the branch main.
func Init(ctx context.Context, dir string) (Repo, error) {
	repo := Repo{Dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return repo, err
	}
	// An empty template keeps sample hooks out of every repository.
	if _, err := repo.run(ctx, nil, nil, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", dir); err != nil {
		return repo, err
	}
	// Objects of a fetched commit may be asked for by id, as the Hub allows.
	for _, setting := range [][2]string{
		{"uploadpack.allowAnySHA1InWant", "true"},
		{"http.receivepack", "true"},
		{"core.logAllRefUpdates", "false"},
		{"gc.auto", "0"},
	} {
		if _, err := repo.run(ctx, nil, nil, "config", setting[0], setting[1]); err != nil {
			return repo, err
		}
	}
	return repo, nil
}

// Command prepares a git command in the repository; env entries win over the defaults.
func (r Repo) Command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(baseEnv(), "GIT_DIR="+r.Dir)
	cmd.Env = append(cmd.Env, env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// baseEnv isolates git from the configuration of whoever runs the server.
func baseEnv() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + os.TempDir(),
		"LC_ALL=C",
		"TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_TERMINAL_PROMPT=0",
		// File names are never patterns here, whatever characters they hold.
		"GIT_LITERAL_PATHSPECS=1",
		// A data folder on a mounted volume may belong to another user id.
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=safe.directory",
		"GIT_CONFIG_VALUE_0=*",
	}
	for _, name := range []string{"TMPDIR", "GIT_EXEC_PATH", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// CommandError is a git command that exited with an error, with what it said.
type CommandError struct {
	Args   []string
	Stderr string
	Err    error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("git %s: %v: %s", strings.Join(e.Args, " "), e.Err, e.Stderr)
}

func (e *CommandError) Unwrap() error { return e.Err }

// ExitCode is git's exit status, or -1 when it did not run to its end.
func (e *CommandError) ExitCode() int {
	var exit *exec.ExitError
	if errors.As(e.Err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

func (r Repo) run(ctx context.Context, env []string, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := r.Command(ctx, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), &CommandError{Args: args, Stderr: strings.TrimSpace(stderr.String()), Err: err}
	}
	return stdout.Bytes(), nil
}

func (r Repo) line(ctx context.Context, env []string, stdin io.Reader, args ...string) (string, error) {
	out, err := r.run(ctx, env, stdin, args...)
	return strings.TrimSpace(string(out)), err
}

// temporaryIndex names an index file that does not exist yet, and removes it afterwards.
func (r Repo) temporaryIndex() (env []string, cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "slipway-hub-index-")
	if err != nil {
		return nil, nil, err
	}
	return []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}, func() { os.RemoveAll(dir) }, nil
}

func identity(author Person, when time.Time) []string {
	date := when.UTC().Format(time.RFC3339)
	return []string{
		"GIT_AUTHOR_NAME=" + author.Name, "GIT_AUTHOR_EMAIL=" + author.Email, "GIT_AUTHOR_DATE=" + date,
		"GIT_COMMITTER_NAME=" + author.Name, "GIT_COMMITTER_EMAIL=" + author.Email, "GIT_COMMITTER_DATE=" + date,
	}
}
