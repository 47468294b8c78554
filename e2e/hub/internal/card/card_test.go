package card

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestParseFindsTheMetadataBlock(t *testing.T) {
	for name, test := range map[string]struct {
		readme string
		want   map[string]any
	}{
		"unix":           {"---\nlicense: mit\n---\n# Title\n", map[string]any{"license": "mit"}},
		"windows":        {"---\r\nlicense: mit\r\n---\r\n# Title\r\n", map[string]any{"license": "mit"}},
		"byte order":     {"\ufeff---\nlicense: mit\n---\n", map[string]any{"license": "mit"}},
		"nothing behind": {"---\nlicense: mit\n---", map[string]any{"license": "mit"}},
		"none":           {"# Title\n---\nnot: metadata\n---\n", nil},
		"empty":          {"---\n---\n# Title\n", nil},
		"unclosed":       {"---\nlicense: mit\n", nil},
	} {
		got, err := Parse(test.readme)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: Parse = %v, %v; want %v", name, got, err, test.want)
		}
	}
}

func TestParseRefusesWhatIsNotAMapping(t *testing.T) {
	for _, readme := range []string{"---\n- a\n- b\n---\n", "---\ntags: [a\n---\n"} {
		if got, err := Parse(readme); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", readme, got)
		}
	}
}

func TestMetadataCanBeWrittenAsJSON(t *testing.T) {
	metadata, err := Parse("---\n1: number key\nnan: .nan\nnested: [{2: x, y: .inf}]\ndate: 2026-01-02\n---\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(metadata); err != nil {
		t.Error(err)
	}
}

func TestTags(t *testing.T) {
	metadata, err := Parse("---\nlibrary_name: peft\npipeline_tag: text-classification\ntags: [lora, peft]\nlanguage: en\n" +
		"base_model: acme/base\nbase_model_relation: adapter\ndatasets: [acme/tweets]\nlicense: mit\n---\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"peft", "text-classification", "lora", "en", "dataset:acme/tweets", "base_model:acme/base",
		"base_model:adapter:acme/base", "license:mit"}
	if got := Tags(metadata); !reflect.DeepEqual(got, want) {
		t.Errorf("Tags = %v, want %v", got, want)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	index := "---\nmodel-index:\n- name: m\n  results:\n  - task: {type: t}\n    dataset: {type: d, name: d}\n    metrics: [{type: accuracy, value: 1}]\n---\n"
	if problems := Validate(index); len(problems) > 0 {
		t.Errorf("a valid model-index has the problems %v", problems)
	}
	for readme, field := range map[string]string{
		strings.Replace(index, "name: m", "other: m", 1):             "model-index[0].name",
		strings.Replace(index, "{type: t}", "{}", 1):                 "model-index[0].results[0].task.type",
		strings.Replace(index, "{type: d, name: d}", "{type: d}", 1): "model-index[0].results[0].dataset.name",
		strings.Replace(index, "accuracy, value: 1", "accuracy", 1):  "model-index[0].results[0].metrics[0].value",
		"---\ntags: {a: b}\n---\n":                                   "tags",
		"---\nlibrary_name: [peft]\n---\n":                           "library_name",
		"---\nmodel-index: text\n---\n":                              "model-index",
	} {
		problems := Validate(readme)
		if len(problems) != 1 || !strings.Contains(problems[0], field) {
			t.Errorf("Validate(%q) = %v, want one problem about %s", readme, problems, field)
		}
	}
}

func TestEvalResults(t *testing.T) {
	results, err := ParseEvalResults([]byte("- dataset: {id: a/b, task_id: default}\n  value: 0.5\n"))
	if err != nil || len(results) != 1 {
		t.Fatalf("ParseEvalResults = %v, %v", results, err)
	}
	for _, content := range []string{"value: 1", "- value: 1", "- dataset: {id: a/b, task_id: t}", "- ["} {
		if _, err := ParseEvalResults([]byte(content)); err == nil {
			t.Errorf("%q is taken for eval results", content)
		}
	}
}
