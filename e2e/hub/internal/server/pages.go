package server

import (
	"html/template"
	"net/http"

	"slipway.dev/e2e/hub/internal/card"
)

// validateCard checks the metadata block of a card.
func (s *Server) validateCard(c *call) error {
	var body struct {
		Content string `json:"content"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	type message struct {
		Message string `json:"message"`
	}
	problems, warnings := []message{}, []message{}
	for _, problem := range card.Validate(body.Content) {
		problems = append(problems, message{problem})
	}
	status := http.StatusOK
	if len(problems) > 0 {
		status = http.StatusBadRequest
	} else if metadata, _ := card.Parse(body.Content); metadata == nil {
		warnings = append(warnings, message{"empty or missing yaml metadata in repo card"})
	}
	c.json(status, map[string]any{"errors": problems, "warnings": warnings})
	return nil
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.ID}}</title></head>
<body><h1>{{.ID}}</h1>
<p>Commit <code>{{.Commit}}</code></p>
<ul>{{range .Files}}<li><a href="{{.Link}}">{{.Path}}</a> ({{.Size}} bytes)</li>
{{end}}</ul>
<pre>{{.Card}}</pre>
</body></html>
`))

// page shows a repository to a person: its files and its card.
func (s *Server) page(c *call, repo *repository) error {
	ctx := c.r.Context()
	commit, err := repo.git.Resolve(ctx, "main")
	if err != nil {
		return err
	}
	files, err := repo.files(ctx, commit, "", true)
	if err != nil {
		return err
	}
	type row struct {
		Path, Link string
		Size       int64
	}
	view := struct {
		ID, Commit, Card string
		Files            []row
	}{ID: repo.id(), Commit: commit}
	for _, f := range files {
		if f.Dir {
			continue
		}
		view.Files = append(view.Files, row{f.Path, repo.webPath() + "/resolve/" + commit + "/" + f.Path, f.contentSize()})
		if f.Path == "README.md" && f.Size <= maxMetadataFile {
			contents, err := repo.git.Blobs(ctx, []string{f.ID})
			if err != nil {
				return err
			}
			view.Card = string(contents[f.ID])
		}
	}
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return pageTemplate.Execute(c.w, view)
}
