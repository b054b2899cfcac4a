package darkroom

import (
	"time"

	"darkroom/darkroomv1"
)

// Event is what a stream reports, in this order: Accepted, Queued*, (Progress | Preview | Image)*,
// Completed. Progress and previews may be left out for a slow reader. It is one of *Accepted, *Queued,
// *Progress, *Preview, *Image and *Completed.
type Event interface{ event() }

// Accepted says that the request is valid and admitted. Always first.
type Accepted struct {
	*darkroomv1.GenerationEvent_Accepted
	// RequestID finds the call in the service's logs.
	RequestID string
}

// Queued says that the request waits behind others, or for the model to load.
type Queued struct {
	AheadCount   int
	ModelLoading bool
	// Estimated is the time until the images are made; 0 when the server cannot tell.
	Estimated time.Duration
}

// Progress says that a stage began or a denoising step ended; the counts are 0 outside denoising.
type Progress struct {
	*darkroomv1.GenerationEvent_Progress
}

// Preview is a small picture of an image so far.
type Preview struct {
	*darkroomv1.GenerationEvent_Preview
}

// Completed says that all images were sent. Always last.
type Completed struct {
	*darkroomv1.GenerationEvent_Completed
}

func (*Accepted) event()  {}
func (*Queued) event()    {}
func (*Progress) event()  {}
func (*Preview) event()   {}
func (*Image) event()     {}
func (*Completed) event() {}
