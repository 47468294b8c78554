// Command slipway-hub serves a Hugging Face Hub of bare git repositories: what the official
// clients need to create, upload, download, review and delete models and datasets.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"slipway.dev/e2e/hub/internal/faults"
	"slipway.dev/e2e/hub/internal/server"
)

// drainTime is how long requests may go on after a signal to stop.
const drainTime = 10 * time.Second

const usage = `slipway-hub serves a Hugging Face Hub of bare git repositories.

Usage: slipway-hub [flags]

Users: owner (token hf_owner, member of the organisation acme) and other (token hf_other).
Point clients at it with HF_ENDPOINT; the Python client also needs HF_HUB_DISABLE_XET=1.

Flags:
`

type config struct {
	listen, data, publicURL string
	faults, log             bool
	rateLimit               int
}

func main() {
	var c config
	flag.StringVar(&c.listen, "listen", "127.0.0.1:8090", "address to listen on; port 0 takes a free one")
	flag.StringVar(&c.data, "data", defaultDataDir(), "folder of the repositories")
	flag.StringVar(&c.publicURL, "public-url", "", "base of the URLs in answers (default: what the request asked for)")
	flag.BoolVar(&c.faults, "faults", false, "serve /_faults and /_requests, for tests")
	flag.BoolVar(&c.log, "log", false, "write an access log in JSON to standard error")
	flag.IntVar(&c.rateLimit, "rate-limit", 0, "requests a caller may make in five minutes in each of the buckets api, resolvers and pages; 0 is any number")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "slipway-hub: unexpected argument %q: see --help\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(c); err != nil {
		fmt.Fprintf(os.Stderr, "slipway-hub: %v\n", err)
		os.Exit(1)
	}
}

func defaultDataDir() string {
	if cache := os.Getenv("SLIPWAY_CACHE"); cache != "" {
		return filepath.Join(cache, "hub")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "hub-data"
	}
	return filepath.Join(home, ".cache", "slipway", "hub")
}

func run(c config) error {
	if _, err := exec.LookPath("git"); err != nil {
		return errors.New("git is not installed: install git 2.38 or newer")
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	hub, err := server.New(server.Options{
		DataDir: c.data, PublicURL: c.publicURL, Accounts: server.DefaultAccounts(), RateLimit: c.rateLimit, Log: log,
	})
	if err != nil {
		return err
	}
	var handler http.Handler = hub
	if c.faults {
		handler = faults.New().Wrap(handler)
	}
	if c.log {
		handler = server.AccessLog(handler, log)
	}
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(listener) }()
	fmt.Printf("slipway-hub is ready at http://%s, data in %s\n", listener.Addr(), c.data)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		return srv.Close()
	}
	return nil
}
