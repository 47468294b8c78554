package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway.dev/e2e/hub/internal/git"
	"slipway.dev/e2e/hub/internal/lfs"
)

// repoTypes are the plural kinds of repositories, as they appear in API paths and on disk.
var repoTypes = []string{"models", "datasets", "spaces"}

var errNoRepo = errors.New("no such repository")

// repoKey names a repository.
type repoKey struct {
	kind      string // models, datasets or spaces
	namespace string
	name      string
}

func (k repoKey) id() string { return k.namespace + "/" + k.name }

// singular is the kind as it appears in JSON bodies: model, dataset or space.
func (k repoKey) singular() string { return strings.TrimSuffix(k.kind, "s") }

// webPath is the path of the repository's page: models have no prefix.
func (k repoKey) webPath() string {
	if k.kind == "models" {
		return "/" + k.id()
	}
	return "/" + k.kind + "/" + k.id()
}

var repoName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$`)

// validate refuses names the Hub refuses, and with them everything that is not a plain folder name.
func (k repoKey) validate() error {
	for _, part := range []string{k.namespace, k.name} {
		if !repoName.MatchString(part) || strings.Contains(part, "--") || strings.Contains(part, "..") || strings.HasSuffix(part, ".git") {
			return fail(400, "Invalid repository name %q: use 1 to 96 letters, digits, '-', '_' or '.', "+
				"not '--' or '..', neither starting nor ending with '-' or '.', not ending with '.git'", part)
		}
	}
	return nil
}

// repoSettings is what a repository is besides its git content; it lives in hub.json inside it.
type repoSettings struct {
	Private   bool      `json:"private"`
	Gated     string    `json:"gated,omitempty"`   // "", "auto" or "manual"
	Granted   []string  `json:"granted,omitempty"` // users who may read a gated repository
	Creator   string    `json:"creator"`
	CreatedAt time.Time `json:"createdAt"`
}

// repository is one repository on disk.
type repository struct {
	repoKey
	git      git.Repo
	lfs      lfs.Store
	settings repoSettings
}

// registry finds repositories in a data folder. The folder is the only state: a server that
// is started again on it has everything.
type registry struct {
	root  string
	mu    sync.Mutex
	locks map[repoKey]*sync.Mutex
}

func newRegistry(root string) *registry {
	return &registry{root: root, locks: map[repoKey]*sync.Mutex{}}
}

func (g *registry) dir(key repoKey) string {
	return filepath.Join(g.root, "repos", key.kind, key.namespace, key.name+".git")
}

// lock serializes the writers of one repository.
func (g *registry) lock(key repoKey) (unlock func()) {
	g.mu.Lock()
	lock, ok := g.locks[key]
	if !ok {
		lock = &sync.Mutex{}
		g.locks[key] = lock
	}
	g.mu.Unlock()
	lock.Lock()
	return lock.Unlock
}

func (g *registry) at(key repoKey, settings repoSettings) *repository {
	dir := g.dir(key)
	return &repository{
		repoKey: key, git: git.Repo{Dir: dir}, lfs: lfs.Store{Dir: filepath.Join(dir, "lfs")}, settings: settings,
	}
}

// open finds a repository, or returns errNoRepo.
func (g *registry) open(key repoKey) (*repository, error) {
	if key.validate() != nil {
		return nil, errNoRepo
	}
	content, err := os.ReadFile(filepath.Join(g.dir(key), "hub.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoRepo
	}
	if err != nil {
		return nil, err
	}
	var settings repoSettings
	if err := json.Unmarshal(content, &settings); err != nil {
		return nil, fmt.Errorf("settings of %s: %w", key.id(), err)
	}
	return g.at(key, settings), nil
}

// create makes a repository with the Hub's initial commit. The caller holds its lock
// and has checked that it does not exist.
func (g *registry) create(ctx context.Context, key repoKey, settings repoSettings) (*repository, error) {
	repo := g.at(key, settings)
	// What an interrupted creation left has no hub.json and is nobody's.
	if err := os.RemoveAll(repo.git.Dir); err != nil {
		return nil, err
	}
	if _, err := git.Init(ctx, repo.git.Dir); err != nil {
		return nil, err
	}
	blob, err := repo.git.WriteBlob(ctx, strings.NewReader(defaultAttributes(key.kind)))
	if err != nil {
		return nil, err
	}
	tree, err := repo.git.WriteTree(ctx, git.EmptyTreeID, []git.Change{{Path: ".gitattributes", ID: blob}})
	if err != nil {
		return nil, err
	}
	commit, err := repo.git.Commit(ctx, tree, nil, "initial commit", person(settings.Creator), settings.CreatedAt)
	if err != nil {
		return nil, err
	}
	if err := repo.git.UpdateRef(ctx, "refs/heads/main", commit, git.ZeroID); err != nil {
		return nil, err
	}
	return repo, repo.saveSettings()
}

func (r *repository) saveSettings() error {
	return writeFileAtomically(filepath.Join(r.git.Dir, "hub.json"), r.settings)
}

func (g *registry) remove(key repoKey) error { return os.RemoveAll(g.dir(key)) }

func (g *registry) move(from, to repoKey) error {
	if err := os.MkdirAll(filepath.Dir(g.dir(to)), 0o755); err != nil {
		return err
	}
	return os.Rename(g.dir(from), g.dir(to))
}

// list finds the repositories of a kind, sorted by id; an empty namespace means all of them.
func (g *registry) list(kind, namespace string) ([]*repository, error) {
	pattern := namespace
	if namespace == "" {
		pattern = "*"
	} else if !repoName.MatchString(namespace) {
		return nil, nil
	}
	paths, err := filepath.Glob(filepath.Join(g.root, "repos", kind, pattern, "*.git"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var repos []*repository
	for _, path := range paths {
		key := repoKey{kind: kind, namespace: filepath.Base(filepath.Dir(path)), name: strings.TrimSuffix(filepath.Base(path), ".git")}
		repo, err := g.open(key)
		if errors.Is(err, errNoRepo) {
			continue // deleted since, or half created
		}
		if err != nil {
			return nil, err
		}
		repos = append(repos, repo)
	}
	return repos, nil
}

func person(name string) git.Person {
	return git.Person{Name: name, Email: name + "@users.noreply.hub.invalid"}
}

// stableID gives things the 24-digit ids the Hub's JSON carries.
func stableID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

func writeFileAtomically(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(append(content, '\n'))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
