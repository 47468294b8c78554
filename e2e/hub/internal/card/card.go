// Package card reads the metadata in the YAML front matter of a model or dataset card.
package card

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// frontMatter is the pattern by which huggingface_hub finds the metadata block.
var frontMatter = regexp.MustCompile(`^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))`)

// emptyFrontMatter is a block with nothing between its two fences.
var emptyFrontMatter = regexp.MustCompile(`^\s*---(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$)`)

// Parse returns the metadata of a card, nil when it has none.
func Parse(readme string) (map[string]any, error) {
	readme = strings.TrimPrefix(readme, "\ufeff")
	if emptyFrontMatter.MatchString(readme) {
		return nil, nil
	}
	match := frontMatter.FindStringSubmatch(readme)
	if match == nil {
		return nil, nil
	}
	var document any
	if err := yaml.Unmarshal([]byte(match[2]), &document); err != nil {
		return nil, fmt.Errorf("the metadata block is not valid YAML: %w", err)
	}
	if document == nil {
		return nil, nil
	}
	metadata, ok := jsonable(document).(map[string]any)
	if !ok {
		return nil, errors.New("the metadata block must be a YAML mapping")
	}
	return metadata, nil
}

// Validate returns what the Hub would refuse in a card, one sentence each.
func Validate(readme string) (problems []string) {
	metadata, err := Parse(readme)
	if err != nil {
		return []string{err.Error()}
	}
	for _, key := range []string{"library_name", "pipeline_tag", "license_name", "license_link"} {
		if value, ok := metadata[key]; ok && value != nil {
			if _, isString := value.(string); !isString {
				problems = append(problems, fmt.Sprintf("%q must be a string", key))
			}
		}
	}
	for _, key := range []string{"tags", "datasets", "metrics", "base_model", "license", "language"} {
		if value, ok := metadata[key]; ok && value != nil && stringsOf(value) == nil {
			problems = append(problems, fmt.Sprintf("%q must be a string or a list of strings", key))
		}
	}
	if index, ok := metadata["model-index"]; ok && index != nil {
		problems = append(problems, validateModelIndex(index)...)
	}
	return problems
}

func validateModelIndex(index any) (problems []string) {
	models, ok := index.([]any)
	if !ok {
		return []string{`"model-index" must be a list`}
	}
	for i, entry := range models {
		model, _ := entry.(map[string]any)
		if _, ok := model["name"].(string); !ok {
			problems = append(problems, fmt.Sprintf(`"model-index[%d].name" is required`, i))
		}
		results, ok := model["results"].([]any)
		if !ok {
			problems = append(problems, fmt.Sprintf(`"model-index[%d].results" must be a list`, i))
		}
		for j, entry := range results {
			where := fmt.Sprintf("model-index[%d].results[%d]", i, j)
			result, _ := entry.(map[string]any)
			task, _ := result["task"].(map[string]any)
			if _, ok := task["type"].(string); !ok {
				problems = append(problems, fmt.Sprintf("%q is required", where+".task.type"))
			}
			if dataset, ok := result["dataset"].(map[string]any); ok {
				for _, key := range []string{"type", "name"} {
					if _, ok := dataset[key].(string); !ok {
						problems = append(problems, fmt.Sprintf("%q is required", where+".dataset."+key))
					}
				}
			}
			metrics, ok := result["metrics"].([]any)
			if !ok {
				problems = append(problems, fmt.Sprintf("%q must be a list", where+".metrics"))
			}
			for k, entry := range metrics {
				metric, _ := entry.(map[string]any)
				if _, ok := metric["type"].(string); !ok {
					problems = append(problems, fmt.Sprintf("%q is required", fmt.Sprintf("%s.metrics[%d].type", where, k)))
				}
				if _, ok := metric["value"]; !ok {
					problems = append(problems, fmt.Sprintf("%q is required", fmt.Sprintf("%s.metrics[%d].value", where, k)))
				}
			}
		}
	}
	return problems
}

// Tags derives the tag list the Hub shows for a repository from its card.
func Tags(metadata map[string]any) []string {
	tags := []string{}
	seen := map[string]bool{}
	add := func(tag string) {
		if tag != "" && !seen[tag] {
			seen[tag] = true
			tags = append(tags, tag)
		}
	}
	addAll := func(key, prefix string) {
		for _, value := range stringsOf(metadata[key]) {
			add(prefix + value)
		}
	}
	addAll("library_name", "")
	addAll("pipeline_tag", "")
	addAll("tags", "")
	addAll("language", "")
	addAll("task_categories", "task_categories:")
	addAll("size_categories", "size_categories:")
	addAll("datasets", "dataset:")
	addAll("base_model", "base_model:")
	if relation, ok := metadata["base_model_relation"].(string); ok {
		addAll("base_model", "base_model:"+relation+":")
	}
	addAll("license", "license:")
	return tags
}

// stringsOf reads a string or a list of strings; anything else is nil.
func stringsOf(value any) []string {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []any:
		list := make([]string, 0, len(value))
		for _, item := range value {
			text, ok := item.(string)
			if !ok {
				return nil
			}
			list = append(list, text)
		}
		return list
	default:
		return nil
	}
}

// ParseEvalResults reads one .eval_results/*.yaml file: a list of results.
func ParseEvalResults(content []byte) ([]any, error) {
	var document any
	if err := yaml.Unmarshal(content, &document); err != nil {
		return nil, err
	}
	results, ok := jsonable(document).([]any)
	if !ok {
		return nil, errors.New("an eval results file must hold a list")
	}
	for i, entry := range results {
		result, _ := entry.(map[string]any)
		dataset, _ := result["dataset"].(map[string]any)
		if dataset["id"] == nil || dataset["task_id"] == nil {
			return nil, fmt.Errorf("result %d needs dataset.id and dataset.task_id", i)
		}
		if _, ok := result["value"]; !ok {
			return nil, fmt.Errorf("result %d needs a value", i)
		}
	}
	return results, nil
}

// jsonable turns YAML's values into ones encoding/json accepts: keys become strings.
func jsonable(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, item := range value {
			value[key] = jsonable(item)
		}
		return value
	case map[any]any:
		object := make(map[string]any, len(value))
		for key, item := range value {
			object[fmt.Sprint(key)] = jsonable(item)
		}
		return object
	case []any:
		for i, item := range value {
			value[i] = jsonable(item)
		}
		return value
	case float64:
		// JSON has neither NaN nor infinities.
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return nil
		}
		return value
	default:
		return value
	}
}
