// Package darkroom is a client of Darkroom, a gRPC service that makes images.
package darkroom

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"darkroom/darkroomv1"
)

// Options say how a server is spoken to. The zero value is a plain connection without a key.
type Options struct {
	// APIKey is sent with every call, as "authorization: Bearer KEY".
	APIKey string
	// MaxAttempts counts the first try; 0 means 4, and 1 turns retrying off.
	MaxAttempts int
	// Dial are options of the connection, such as TLS credentials. Without any it is plain.
	Dial []grpc.DialOption
}

// Client is a connection to one server. It may be used by several goroutines.
type Client struct {
	address    string
	options    Options
	connection *grpc.ClientConn
	images     darkroomv1.ImageServiceClient
	models     darkroomv1.ModelServiceClient
}

// Dial makes a client of the server at an address such as 127.0.0.1:8001. It does not connect before
// the first call.
func Dial(address string, options Options) (*Client, error) {
	if options.MaxAttempts == 0 {
		options.MaxAttempts = 4
	}
	dial := options.Dial
	if len(dial) == 0 {
		dial = []grpc.DialOption{grpc.WithInsecure()}
	}
	connection, err := grpc.Dial(address, dial...)
	if err != nil {
		return nil, err
	}
	return &Client{
		address:    address,
		options:    options,
		connection: connection,
		images:     darkroomv1.NewImageServiceClient(connection),
		models:     darkroomv1.NewModelServiceClient(connection),
	}, nil
}

// Close cancels the calls that still run and closes the connection.
func (c *Client) Close() error {
	return c.connection.Close()
}

// Generate makes images of a prompt. Failures are told by the stream's Next.
func (c *Client) Generate(ctx context.Context, request *darkroomv1.GenerateRequest) *Stream {
	return c.stream(ctx, func(ctx context.Context) (messages, error) {
		stream, err := c.images.Generate(ctx, request)
		return generateMessages{stream}, err
	})
}

// Fill repaints the masked part of an image. Failures are told by the stream's Next.
func (c *Client) Fill(ctx context.Context, request *darkroomv1.FillRequest) *Stream {
	return c.stream(ctx, func(ctx context.Context) (messages, error) {
		stream, err := c.images.Fill(ctx, request)
		return fillMessages{stream}, err
	})
}

// ListModels tells every model of the server, loaded or not, by name.
func (c *Client) ListModels(ctx context.Context) ([]*darkroomv1.Model, error) {
	var models []*darkroomv1.Model
	request := &darkroomv1.ListModelsRequest{}
	for {
		var page *darkroomv1.ListModelsResponse
		err := c.unary(ctx, func(ctx context.Context, trailer *metadata.MD) (err error) {
			page, err = c.models.ListModels(ctx, request, grpc.Trailer(trailer))
			return err
		})
		if err != nil {
			return nil, err
		}
		models = append(models, page.Models...)
		if page.NextPageToken == "" {
			return models, nil
		}
		request.PageToken = page.NextPageToken
	}
}

// GetModel tells of one model by resource name, hub id or alias.
func (c *Client) GetModel(ctx context.Context, name string) (*darkroomv1.Model, error) {
	var response *darkroomv1.GetModelResponse
	err := c.unary(ctx, func(ctx context.Context, trailer *metadata.MD) (err error) {
		request := &darkroomv1.GetModelRequest{Name: name}
		response, err = c.models.GetModel(ctx, request, grpc.Trailer(trailer))
		return err
	})
	return response.GetModel(), err
}

func (c *Client) stream(ctx context.Context, call func(context.Context) (messages, error)) *Stream {
	requestID := newRequestID()
	ctx, cancel := context.WithCancel(c.outgoing(ctx, requestID))
	return &Stream{
		client:    c,
		ctx:       ctx,
		cancel:    cancel,
		call:      call,
		requestID: requestID,
		seen:      map[int32]bool{},
	}
}

func (c *Client) unary(ctx context.Context, call func(context.Context, *metadata.MD) error) error {
	requestID := newRequestID()
	ctx = c.outgoing(ctx, requestID)
	for attempt := 1; ; attempt++ {
		var trailer metadata.MD
		err := call(ctx, &trailer)
		if err == nil || !c.waitBeforeNext(ctx, err, trailer, attempt) {
			return errorOf(ctx, err, c.address, requestID)
		}
	}
}

func (c *Client) outgoing(ctx context.Context, requestID string) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", requestID)
	if c.options.APIKey != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.options.APIKey)
	}
	return ctx
}

func newRequestID() string {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		panic(err) // the system has no randomness
	}
	return hex.EncodeToString(id)
}
