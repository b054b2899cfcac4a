package darkroom

import (
	"context"
	"crypto/sha256"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"darkroom/darkroomv1"
)

type message = darkroomv1.GenerationEvent

// script plays one call.
type script func(ctx context.Context, send func(*message) error) error

// scriptedServer says what a test tells it to, on a real port: one script a call.
type scriptedServer struct {
	darkroomv1.UnimplementedImageServiceServer
	address string

	mutex    sync.Mutex
	scripts  []script
	requests []interface{}
	metadata []metadata.MD
}

func serve(t *testing.T, scripts ...script) *scriptedServer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &scriptedServer{address: listener.Addr().String(), scripts: scripts}
	serving := grpc.NewServer()
	darkroomv1.RegisterImageServiceServer(serving, server)
	go serving.Serve(listener)
	t.Cleanup(serving.Stop)
	return server
}

func (s *scriptedServer) dial(t *testing.T, options Options) *Client {
	client, err := Dial(s.address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func (s *scriptedServer) play(ctx context.Context, request interface{}, send func(*message) error) error {
	s.mutex.Lock()
	s.requests = append(s.requests, request)
	sent, _ := metadata.FromIncomingContext(ctx)
	s.metadata = append(s.metadata, sent)
	next := s.scripts[0]
	s.scripts = s.scripts[1:]
	s.mutex.Unlock()
	return next(ctx, send)
}

func (s *scriptedServer) Generate(request *darkroomv1.GenerateRequest, stream darkroomv1.ImageService_GenerateServer) error {
	return s.play(stream.Context(), request, func(event *message) error {
		return stream.Send(&darkroomv1.GenerateResponse{Event: event})
	})
}

func (s *scriptedServer) Fill(request *darkroomv1.FillRequest, stream darkroomv1.ImageService_FillServer) error {
	return s.play(stream.Context(), request, func(event *message) error {
		return stream.Send(&darkroomv1.FillResponse{Event: event})
	})
}

// says is a call that sends these events and ends well.
func says(events ...*message) script { return fails(nil, events...) }

// fails is a call that sends these events and then fails.
func fails(failure error, events ...*message) script {
	return func(_ context.Context, send func(*message) error) error {
		for _, event := range events {
			if err := send(event); err != nil {
				return err
			}
		}
		return failure
	}
}

func accepted() *message {
	value := &darkroomv1.GenerationEvent_Accepted{GenerationId: "g-1"}
	return &message{Event: &darkroomv1.GenerationEvent_Accepted_{Accepted: value}}
}

func progress() *message {
	value := &darkroomv1.GenerationEvent_Progress{CompletedStepCount: 1, TotalStepCount: 9}
	return &message{Event: &darkroomv1.GenerationEvent_Progress_{Progress: value}}
}

func announce(content []byte, sizeBytes int) *message {
	digest := sha256.Sum256(content)
	value := &darkroomv1.GenerationEvent_Image{
		MediaType: "image/png", Seed: 7, SizeBytes: int64(sizeBytes), Sha256: digest[:],
		FinishReason: darkroomv1.GenerationEvent_FINISH_REASON_SUCCESS,
	}
	return &message{Event: &darkroomv1.GenerationEvent_Image_{Image: value}}
}

func chunk(content []byte, offset int, imageIndex int32) *message {
	value := &darkroomv1.GenerationEvent_Chunk{ImageIndex: imageIndex, OffsetBytes: int64(offset), Content: content}
	return &message{Event: &darkroomv1.GenerationEvent_Chunk_{Chunk: value}}
}

func completed(imageCount int32) *message {
	value := &darkroomv1.GenerationEvent_Completed{ImageCount: imageCount}
	return &message{Event: &darkroomv1.GenerationEvent_Completed_{Completed: value}}
}
