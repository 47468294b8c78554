package server

import "strings"

// lfsPatterns are what the Hub puts into .gitattributes of every new repository, and *.gguf,
// which it stores as LFS for being binary.
var lfsPatterns = []string{
	"*.7z", "*.arrow", "*.bin", "*.bz2", "*.ckpt", "*.ftz", "*.gguf", "*.gz", "*.h5", "*.joblib", "*.lfs.*", "*.mlmodel",
	"*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx", "*.ot", "*.parquet", "*.pb", "*.pickle", "*.pkl", "*.pt", "*.pth",
	"*.rar", "*.safetensors", "saved_model/**/*", "*.tar.*", "*.tar", "*.tflite", "*.tgz", "*.wasm", "*.xz", "*.zip",
	"*.zst", "*tfevents*",
}

// datasetPatterns are added for datasets: audio, images, video.
var datasetPatterns = []string{
	"*.lz4", "*.mds",
	"*.pcm", "*.sam", "*.raw", "*.aac", "*.flac", "*.mp3", "*.ogg", "*.wav",
	"*.bmp", "*.gif", "*.png", "*.tiff", "*.jpg", "*.jpeg", "*.webp",
	"*.mp4", "*.webm",
}

func defaultAttributes(kind string) string {
	patterns := lfsPatterns
	if kind == "datasets" {
		patterns = append(append([]string{}, lfsPatterns...), datasetPatterns...)
	}
	var text strings.Builder
	for _, pattern := range patterns {
		text.WriteString(attributeLine(pattern))
	}
	return text.String()
}

func attributeLine(pattern string) string { return pattern + " filter=lfs diff=lfs merge=lfs -text\n" }

// exactPattern is a .gitattributes pattern for one path and no other.
func exactPattern(path string) string {
	var pattern strings.Builder
	// Without the slash it would hold in every folder, and '#' or '!' would mean something else.
	pattern.WriteString("/")
	for _, c := range path {
		switch c {
		case '*', '?', '[', ']', '\\':
			pattern.WriteString(`\`)
		case ' ':
			// gitattributes has no escape for blanks outside of quotes.
			pattern.WriteString("[[:space:]]")
			continue
		}
		pattern.WriteRune(c)
	}
	return pattern.String()
}
