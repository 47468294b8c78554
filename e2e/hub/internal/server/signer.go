package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// signedFor is how long a signed URL works.
const signedFor = time.Hour

// signer makes URLs that carry their own permission: what LFS clients are sent to is
// asked for without a token.
type signer struct {
	key []byte
}

// loadSigner reads the key, or makes one, so that URLs outlive a restart.
func loadSigner(path string) (signer, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == sha256.Size {
		return signer{key}, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return signer{}, err
	}
	key = make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return signer{}, err
	}
	return signer{key}, os.WriteFile(path, key, 0o600)
}

func (s signer) mac(method, path string, query url.Values) string {
	hash := hmac.New(sha256.New, s.key)
	fmt.Fprintf(hash, "%s\n%s\n%s", method, path, query.Encode())
	return hex.EncodeToString(hash.Sum(nil))
}

// sign returns path (escaped) with a query that allows one method on it for a while.
func (s signer) sign(method, path string, query url.Values, now time.Time) string {
	query.Set("expires", strconv.FormatInt(now.Add(signedFor).Unix(), 10))
	query.Set("signature", s.mac(method, path, query))
	return path + "?" + query.Encode()
}

// verify checks a signed request; a URL signed for GET also answers HEAD.
func (s signer) verify(r *http.Request, now time.Time) error {
	query := r.URL.Query()
	signature := query.Get("signature")
	query.Del("signature")
	method := strings.Replace(r.Method, http.MethodHead, http.MethodGet, 1)
	if !hmac.Equal([]byte(signature), []byte(s.mac(method, r.URL.EscapedPath(), query))) {
		return fail(http.StatusForbidden, "The signature of this URL does not fit")
	}
	expires, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	if err != nil || now.Unix() > expires {
		return fail(http.StatusForbidden, "Request has expired: ask for a new URL")
	}
	return nil
}
