package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"

	"darkroom"
	"darkroom/darkroomv1"
)

// nobody is a port that nothing listens on.
const nobody = "127.0.0.1:1"

type testCase struct {
	Name        string          `json:"name"`
	Method      string          `json:"method"`
	Request     json.RawMessage `json:"request"`
	TimeoutS    float64         `json:"timeout_s"`
	CancelAfter string          `json:"cancel_after"`
	Server      string          `json:"server"`
}

type report struct {
	Case      string   `json:"case"`
	Events    []string `json:"events"`
	Warnings  []string `json:"warnings"`
	Images    []image  `json:"images"`
	Models    []string `json:"models"`
	Cancelled bool     `json:"cancelled"`
	Error     *failure `json:"error,omitempty"`
}

type image struct {
	ImageIndex int    `json:"image_index"`
	Seed       string `json:"seed"`
	WidthPx    int    `json:"width_px"`
	HeightPx   int    `json:"height_px"`
	MediaType  string `json:"media_type"`
}

type failure struct {
	Kind          string   `json:"kind"`
	Code          string   `json:"code"`
	Reason        string   `json:"reason"`
	Fields        []string `json:"fields"`
	HasRetryDelay bool     `json:"has_retry_delay"`
}

// conformance runs every case and prints its report.
func conformance(address, casesFile, folder string) error {
	content, err := os.ReadFile(casesFile)
	if err != nil {
		return err
	}
	var file struct {
		Cases []testCase `json:"cases"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return err
	}
	for index, each := range file.Cases {
		made, err := run(address, each, filepath.Join(folder, strconv.Itoa(index)))
		if err != nil {
			return fmt.Errorf("%s: %w", each.Name, err)
		}
		line, err := json.Marshal(made)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return nil
}

func run(address string, each testCase, stem string) (*report, error) {
	if each.Server == "none" {
		address = nobody
	}
	client, err := darkroom.Dial(address, darkroom.Options{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	timeout := time.Minute
	if each.TimeoutS > 0 {
		timeout = time.Duration(each.TimeoutS * float64(time.Second))
	}
	deadline, end := context.WithTimeout(context.Background(), timeout)
	defer end()
	ctx, cancel := context.WithCancel(deadline)
	defer cancel()
	made := &report{
		Case: each.Name, Events: []string{}, Warnings: []string{}, Images: []image{}, Models: []string{},
	}
	if each.Method == "ListModels" || each.Method == "GetModel" {
		return made, made.addModels(ctx, client, each)
	}
	stream, err := call(ctx, client, each)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	for {
		event, err := stream.Next()
		if err != nil {
			made.note(err)
			return made, nil
		}
		kind, err := made.add(event, stem)
		if err != nil {
			return nil, err
		}
		if kind == each.CancelAfter {
			cancel()
		}
	}
}

func call(ctx context.Context, client *darkroom.Client, each testCase) (*darkroom.Stream, error) {
	if each.Method == "Fill" {
		request := &darkroomv1.FillRequest{}
		return client.Fill(ctx, request), protojson.Unmarshal(each.Request, request)
	}
	request := &darkroomv1.GenerateRequest{}
	return client.Generate(ctx, request), protojson.Unmarshal(each.Request, request)
}

// addModels makes the call of a case about models.
func (r *report) addModels(ctx context.Context, client *darkroom.Client, each testCase) error {
	var models []*darkroomv1.Model
	var failed error
	if each.Method == "ListModels" {
		models, failed = client.ListModels(ctx)
	} else {
		request := &darkroomv1.GetModelRequest{}
		if err := protojson.Unmarshal(each.Request, request); err != nil {
			return err
		}
		var model *darkroomv1.Model
		model, failed = client.GetModel(ctx, request.Name)
		models = append(models, model)
	}
	if failed != nil {
		r.note(failed)
		return nil
	}
	for _, model := range models {
		r.Models = append(r.Models, model.Name)
	}
	return nil
}

// add takes in an event, writes the image of one that has one, and names its kind.
func (r *report) add(event darkroom.Event, stem string) (string, error) {
	kind := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", event), "*darkroom."))
	r.Events = append(r.Events, kind)
	switch event := event.(type) {
	case *darkroom.Accepted:
		for _, warning := range event.Warnings {
			r.Warnings = append(r.Warnings, warning.Reason+" "+warning.Field)
		}
	case *darkroom.Image:
		r.Images = append(r.Images, image{
			ImageIndex: event.ImageIndex,
			Seed:       strconv.FormatInt(event.Seed, 10),
			WidthPx:    event.WidthPx,
			HeightPx:   event.HeightPx,
			MediaType:  event.MediaType,
		})
		return kind, write(fmt.Sprintf("%s-%d", stem, event.ImageIndex), event)
	}
	return kind, nil
}

// note takes in how the call ended; io.EOF is a good end.
func (r *report) note(err error) {
	var failed *darkroom.Error
	if !errors.As(err, &failed) {
		return
	}
	if errors.Is(err, context.Canceled) {
		r.Cancelled = true
		return
	}
	fields := []string{}
	for _, violation := range failed.Violations {
		fields = append(fields, violation.Field)
	}
	r.Error = &failure{
		Kind:          string(failed.Kind),
		Code:          codeName(failed.Code.String()),
		Reason:        failed.Reason,
		Fields:        fields,
		HasRetryDelay: failed.RetryAfter != nil,
	}
}

// codeName is a code as gRPC writes it: InvalidArgument is INVALID_ARGUMENT.
func codeName(name string) string {
	var written strings.Builder
	for index, letter := range name {
		if index > 0 && unicode.IsUpper(letter) {
			written.WriteByte('_')
		}
		written.WriteRune(unicode.ToUpper(letter))
	}
	return written.String()
}
