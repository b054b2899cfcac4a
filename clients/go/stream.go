package darkroom

import (
	"context"
	"io"

	"google.golang.org/grpc/metadata"

	"darkroom/darkroomv1"
)

// Stream is one call. It belongs to one goroutine; Close it when done.
type Stream struct {
	client    *Client
	ctx       context.Context
	cancel    context.CancelFunc
	call      func(context.Context) (messages, error)
	requestID string

	received  messages
	begun     bool
	image     *Image
	seen      map[int32]bool
	completed bool
	err       error
}

// messages are the responses of either method.
type messages interface {
	next() (*darkroomv1.GenerationEvent, error)
	Trailer() metadata.MD
}

type generateMessages struct {
	darkroomv1.ImageService_GenerateClient
}

func (m generateMessages) next() (*darkroomv1.GenerationEvent, error) {
	response, err := m.Recv()
	return response.GetEvent(), err
}

type fillMessages struct {
	darkroomv1.ImageService_FillClient
}

func (m fillMessages) next() (*darkroomv1.GenerationEvent, error) {
	response, err := m.Recv()
	return response.GetEvent(), err
}

// Close cancels the call if it still runs; the service then stops working on it.
func (s *Stream) Close() {
	s.cancel()
}

// Next gives the next event, and io.EOF after the last one. Every other error is an *Error, and the
// call is then over. What was not read of an image is read and checked.
func (s *Stream) Next() (Event, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.image != nil {
		if _, err := io.Copy(io.Discard, s.image); err != nil {
			return nil, err
		}
		s.image = nil
	}
	for {
		message, err := s.receive()
		if err == io.EOF && !s.completed {
			err = s.corrupt("the stream ended early")
		}
		if err != nil {
			return nil, s.fail(err)
		}
		event, err := s.read(message)
		if err != nil {
			return nil, s.fail(err)
		}
		if event != nil {
			return event, nil
		}
	}
}

// receive gives the next message; before the first one it tries again what is turned away.
func (s *Stream) receive() (*darkroomv1.GenerationEvent, error) {
	for attempt := 1; ; attempt++ {
		var trailer metadata.MD
		var err error
		if s.received == nil {
			s.received, err = s.call(s.ctx)
		}
		if err == nil {
			var message *darkroomv1.GenerationEvent
			if message, err = s.received.next(); err == nil {
				s.begun = true
				return message, nil
			}
			trailer = s.received.Trailer()
		}
		if err == io.EOF {
			return nil, err
		}
		if s.begun || !s.client.waitBeforeNext(s.ctx, err, trailer, attempt) {
			return nil, errorOf(s.ctx, err, s.client.address, s.requestID)
		}
		s.received = nil
	}
}

// read makes an event of a message, nil of one that is unknown.
func (s *Stream) read(message *darkroomv1.GenerationEvent) (Event, error) {
	if message.GetEvent() != nil && s.completed {
		return nil, s.corrupt("an event came after the end")
	}
	switch event := message.GetEvent().(type) {
	case *darkroomv1.GenerationEvent_Accepted_:
		return &Accepted{event.Accepted, s.requestID}, nil
	case *darkroomv1.GenerationEvent_Queued_:
		queued := event.Queued
		return &Queued{
			AheadCount:   int(queued.AheadCount),
			ModelLoading: queued.ModelLoading,
			Estimated:    queued.EstimatedDuration.AsDuration(),
		}, nil
	case *darkroomv1.GenerationEvent_Progress_:
		return &Progress{event.Progress}, nil
	case *darkroomv1.GenerationEvent_Preview_:
		return &Preview{event.Preview}, nil
	case *darkroomv1.GenerationEvent_Image_:
		return s.announced(event.Image)
	case *darkroomv1.GenerationEvent_Chunk_:
		return nil, s.corrupt("bytes of image %d were not announced", event.Chunk.ImageIndex)
	case *darkroomv1.GenerationEvent_Completed_:
		if int(event.Completed.ImageCount) != len(s.seen) {
			return nil, s.corrupt("%d images came instead of %d", len(s.seen), event.Completed.ImageCount)
		}
		s.completed = true
		return &Completed{event.Completed}, nil
	}
	return nil, nil
}

func (s *Stream) announced(image *darkroomv1.GenerationEvent_Image) (Event, error) {
	if s.seen[image.ImageIndex] {
		return nil, s.corrupt("image %d came twice", image.ImageIndex)
	}
	s.seen[image.ImageIndex] = true
	s.image = newImage(s, image)
	return s.image, nil
}

func (s *Stream) corrupt(format string, values ...interface{}) *Error {
	return corrupt(s.requestID, format, values...)
}

// fail ends the call with an error, which every later Next tells again.
func (s *Stream) fail(err error) error {
	s.err = err
	s.cancel()
	return err
}
