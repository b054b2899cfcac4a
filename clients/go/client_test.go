package darkroom

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"darkroom/darkroomv1"
)

var (
	picture = []byte("0123456789")
	good    = says(accepted(), announce(picture, 10), chunk(picture, 0, 0), completed(1))
	request = &darkroomv1.GenerateRequest{Prompt: "a cat"}
)

// drain reads a stream to its end; the images' bytes, one after another.
func drain(stream *Stream) ([]byte, error) {
	defer stream.Close()
	var content bytes.Buffer
	for {
		event, err := stream.Next()
		if err == io.EOF {
			return content.Bytes(), nil
		}
		if err != nil {
			return content.Bytes(), err
		}
		if image, ok := event.(*Image); ok {
			if _, err := io.Copy(&content, image); err != nil {
				return content.Bytes(), err
			}
		}
	}
}

func failed(t *testing.T, code codes.Code, details ...proto.Message) error {
	made, err := status.New(code, "so it is").WithDetails(details...)
	if len(details) == 0 {
		made, err = status.New(code, "so it is"), nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return made.Err()
}

func info(reason string) proto.Message {
	return &errdetails.ErrorInfo{Reason: reason, Domain: "darkroom.test"}
}

// busy turns the call away and asks for another after a time.
func busy(t *testing.T, pushbackMs string) script {
	failure := failed(t, codes.Unavailable, info("QUEUE_FULL"))
	return func(ctx context.Context, _ func(*message) error) error {
		grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", pushbackMs))
		return failure
	}
}

func TestAnImageInChunksIsRead(t *testing.T) {
	server := serve(t, says(accepted(), progress(), announce(picture, 10),
		chunk(picture[:4], 0, 0), chunk(picture[4:], 4, 0), completed(1)))
	stream := server.dial(t, Options{APIKey: "t-1"}).Generate(context.Background(), request)
	defer stream.Close()
	var kinds []string
	for {
		event, err := stream.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, reflect.TypeOf(event).Elem().Name())
		if image, ok := event.(*Image); ok {
			if err := iotest.TestReader(image, picture); err != nil {
				t.Error(err)
			}
		}
	}
	if got := strings.Join(kinds, " "); got != "Accepted Progress Image Completed" {
		t.Error(got)
	}
	if got := server.requests[0].(*darkroomv1.GenerateRequest).Prompt; got != "a cat" {
		t.Error(got)
	}
	if got := server.metadata[0].Get("authorization"); len(got) != 1 || got[0] != "Bearer t-1" {
		t.Error(got)
	}
	if got := server.metadata[0].Get("x-request-id"); len(got) != 1 || got[0] != stream.requestID {
		t.Error(got)
	}
}

func TestFillSendsImageAndMask(t *testing.T) {
	server := serve(t, good)
	source := func(content string) *darkroomv1.ImageSource {
		return &darkroomv1.ImageSource{Source: &darkroomv1.ImageSource_Content{Content: []byte(content)}}
	}
	fill := &darkroomv1.FillRequest{Prompt: "a star", Image: source("image"), Mask: source("mask")}
	content, err := drain(server.dial(t, Options{}).Fill(context.Background(), fill))
	if err != nil || !bytes.Equal(content, picture) {
		t.Error(content, err)
	}
	if got := server.requests[0].(*darkroomv1.FillRequest); !proto.Equal(got, fill) {
		t.Error(got)
	}
}

func TestCorruptStreams(t *testing.T) {
	altered := append([]byte{'x'}, picture[1:]...)
	streams := map[string][]*message{
		"altered bytes":          {accepted(), announce(picture, 10), chunk(altered, 0, 0), completed(1)},
		"missing bytes":          {accepted(), announce(picture, 10), chunk(picture[1:], 1, 0), completed(1)},
		"doubled bytes":          {accepted(), announce(picture, 10), chunk(picture[:4], 0, 0), chunk(picture, 0, 0), completed(1)},
		"too many bytes":         {accepted(), announce(picture, 9), chunk(picture, 0, 0), completed(1)},
		"too few bytes":          {accepted(), announce(picture, 10), chunk(picture[:4], 0, 0), completed(1)},
		"bytes of another image": {accepted(), announce(picture, 10), chunk(picture, 0, 1), completed(1)},
		"bytes of no image":      {accepted(), chunk(picture, 0, 0), completed(1)},
		"an image twice":         {accepted(), announce(picture, 10), chunk(picture, 0, 0), announce(picture, 10), chunk(picture, 0, 0), completed(2)},
		"an image too few":       {accepted(), announce(picture, 10), chunk(picture, 0, 0), completed(2)},
		"no end":                 {accepted(), announce(picture, 10), chunk(picture, 0, 0)},
		"an end in an image":     {accepted(), announce(picture, 10), chunk(picture[:4], 0, 0)},
		"more after the end":     {accepted(), completed(0), progress()},
	}
	for name, events := range streams {
		client := serve(t, says(events...), says(events...)).dial(t, Options{})
		if _, err := drain(client.Generate(context.Background(), request)); !errors.Is(err, CorruptImage) {
			t.Errorf("%s: %v", name, err)
		}
		// Also when nobody reads the image.
		stream := client.Generate(context.Background(), request)
		var err error
		for err == nil {
			_, err = stream.Next()
		}
		if !errors.Is(err, CorruptImage) {
			t.Errorf("%s, not read: %v", name, err)
		}
		if _, again := stream.Next(); again != err {
			t.Errorf("%s: %v, and then %v", name, err, again)
		}
	}
}

func TestUnavailableIsTriedAgain(t *testing.T) {
	cases := []struct {
		name     string
		scripts  []script
		options  Options
		wanted   error
		attempts int
	}{
		{"twice and then well", []script{busy(t, "1"), busy(t, "1"), good}, Options{}, nil, 3},
		{"four times at most", []script{busy(t, "1"), busy(t, "1"), busy(t, "1"), busy(t, "1"), good}, Options{}, QueueFull, 4},
		{"unless forbidden", []script{busy(t, "-1"), good}, Options{}, QueueFull, 1},
		{"unless turned off", []script{busy(t, "1"), good}, Options{MaxAttempts: 1}, QueueFull, 1},
		{"not after it began", []script{fails(failed(t, codes.Unavailable), accepted()), good}, Options{}, Unavailable, 1},
		{"not another status", []script{fails(failed(t, codes.Internal)), good}, Options{}, ServerError, 1},
	}
	for _, each := range cases {
		server := serve(t, each.scripts...)
		_, err := drain(server.dial(t, each.options).Generate(context.Background(), request))
		if !errors.Is(err, each.wanted) || len(server.requests) != each.attempts {
			t.Errorf("%s: %v after %d tries", each.name, err, len(server.requests))
		}
	}
}

func TestADeadlineEndsTheWaitForAnotherTry(t *testing.T) {
	server := serve(t, busy(t, "60000"), good)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := drain(server.dial(t, Options{}).Generate(ctx, request))
	if !errors.Is(err, DeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// endless is a call that goes on until it is cancelled, and says so.
func endless(cancelled chan<- struct{}) script {
	return func(ctx context.Context, send func(*message) error) error {
		err := send(accepted())
		<-ctx.Done()
		close(cancelled)
		return err
	}
}

func TestACancelledContextCancelsTheCall(t *testing.T) {
	cancelled := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	stream := serve(t, endless(cancelled)).dial(t, Options{}).Generate(ctx, request)
	if _, err := stream.Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Next(); !errors.Is(err, Cancelled) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-cancelled
}

func TestClosingTheStreamCancelsTheCall(t *testing.T) {
	cancelled := make(chan struct{})
	stream := serve(t, endless(cancelled)).dial(t, Options{}).Generate(context.Background(), request)
	if _, err := stream.Next(); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	<-cancelled
}

func TestNobodyThereIsUnavailableAndSaysWhere(t *testing.T) {
	client, err := Dial("127.0.0.1:1", Options{MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = drain(client.Generate(context.Background(), request))
	if !errors.Is(err, Unavailable) || !strings.Contains(err.Error(), "127.0.0.1:1 is not available") {
		t.Error(err)
	}
}

func TestStatusesAreKinds(t *testing.T) {
	cases := []struct {
		code   codes.Code
		reason string
		wanted Kind
	}{
		{codes.InvalidArgument, "INVALID_PARAMETER", InvalidRequest},
		{codes.OutOfRange, "", InvalidRequest},
		{codes.NotFound, "MODEL_NOT_FOUND", ModelNotFound},
		{codes.FailedPrecondition, "MODEL_UNAVAILABLE", ModelUnavailable},
		{codes.Unauthenticated, "", Unauthenticated},
		{codes.PermissionDenied, "", PermissionDenied},
		{codes.ResourceExhausted, "RATE_LIMITED", RateLimited},
		{codes.ResourceExhausted, "INSUFFICIENT_CREDITS", InsufficientCredits},
		{codes.ResourceExhausted, "OUT_OF_DEVICE_MEMORY", ServerError},
		{codes.ResourceExhausted, "", InvalidRequest},
		{codes.Internal, "GENERATION_FAILED", ServerError},
		{codes.Unknown, "", ServerError},
	}
	for _, each := range cases {
		var details []proto.Message
		if each.reason != "" {
			details = append(details, info(each.reason))
		}
		server := serve(t, fails(failed(t, each.code, details...)))
		_, err := drain(server.dial(t, Options{}).Generate(context.Background(), request))
		var made *Error
		if !errors.As(err, &made) || made.Kind != each.wanted || made.Reason != each.reason || made.Code != each.code {
			t.Errorf("%v %s: %#v", each.code, each.reason, err)
		}
	}
}

func TestAnErrorCarriesWhatTheDetailsSay(t *testing.T) {
	violation := &errdetails.BadRequest_FieldViolation{Field: "step_count", Description: "must be at least 1"}
	server := serve(t, fails(failed(t, codes.InvalidArgument,
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}},
		&errdetails.RequestInfo{RequestId: "r-9"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)})))
	_, err := drain(server.dial(t, Options{}).Generate(context.Background(), request))
	var made *Error
	if !errors.As(err, &made) || made.RequestID != "r-9" || *made.RetryAfter != 1500*time.Millisecond {
		t.Fatalf("%#v", err)
	}
	if !reflect.DeepEqual(made.Violations, []FieldViolation{{"step_count", "must be at least 1"}}) {
		t.Error(made.Violations)
	}
	if made.Error() != "step_count: must be at least 1 (try again in 1.5s)" {
		t.Error(made)
	}
}
