package server

import (
	"net/http"
	"slices"
	"strings"
)

// Account is a user of the Hub.
type Account struct {
	Name          string
	Token         string
	Organisations []string
}

// DefaultAccounts are the users a fresh Hub knows: owner, who is a member of the
// organisation acme, and other, who is a member of nothing.
func DefaultAccounts() []Account {
	return []Account{
		{Name: "owner", Token: "hf_owner", Organisations: []string{"acme"}},
		{Name: "other", Token: "hf_other"},
	}
}

// mayWrite tells whether a namespace belongs to the account. A nil account is an anonymous caller.
func (a *Account) mayWrite(namespace string) bool {
	return a != nil && (a.Name == namespace || slices.Contains(a.Organisations, namespace))
}

// accountOf identifies the caller by bearer token or, for git, by the password of Basic
// authentication. Nil without an error is an anonymous caller.
func (s *Server) accountOf(r *http.Request) (*Account, error) {
	var token string
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		if bearer, ok := strings.CutPrefix(authorization, "Bearer "); ok {
			token = strings.TrimSpace(bearer)
		} else if _, password, ok := r.BasicAuth(); ok {
			token = password
		}
		for i := range s.accounts {
			if token != "" && s.accounts[i].Token == token {
				return &s.accounts[i], nil
			}
		}
		return nil, fail(http.StatusUnauthorized, "Invalid credentials in Authorization header")
	}
	return nil, nil
}

func (s *Server) knownNamespace(name string) bool {
	for _, account := range s.accounts {
		if account.Name == name || slices.Contains(account.Organisations, name) {
			return true
		}
	}
	return false
}

func (s *Server) whoami(c *call) error {
	if c.account == nil {
		return fail(http.StatusUnauthorized, "Invalid username or password: send a token as Authorization: Bearer")
	}
	organisations := []map[string]any{}
	for _, name := range c.account.Organisations {
		organisations = append(organisations, map[string]any{
			"type": "org", "id": stableID("org", name), "name": name, "fullname": name, "roleInOrg": "write", "isEnterprise": false,
		})
	}
	c.json(http.StatusOK, map[string]any{
		"type": "user", "id": stableID("user", c.account.Name), "name": c.account.Name, "fullname": c.account.Name,
		"email": c.account.Name + "@example.com", "emailVerified": true, "isPro": false, "orgs": organisations,
		"auth": map[string]any{
			"type":        "access_token",
			"accessToken": map[string]any{"displayName": c.account.Name, "role": "write"},
		},
	})
	return nil
}
