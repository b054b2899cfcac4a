package darkroom

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"

	"darkroom/darkroomv1"
)

// Image is one encoded image, read as it comes in. Read gives io.EOF only after the size and the
// SHA-256 that the service announced were those of the bytes read; otherwise its error is an *Error.
// It can be read until the stream's Next is called.
type Image struct {
	ImageIndex int
	MediaType  string
	WidthPx    int
	HeightPx   int
	Seed       int64
	SizeBytes  int64
	SHA256     []byte
	// ContentFiltered says that a content filter of the service objected: the image is black, or it
	// is withheld, and then it is empty.
	ContentFiltered bool

	stream    *Stream
	hash      hash.Hash
	readBytes int64
	chunk     []byte
	err       error
}

func newImage(stream *Stream, image *darkroomv1.GenerationEvent_Image) *Image {
	return &Image{
		ImageIndex:      int(image.ImageIndex),
		MediaType:       image.MediaType,
		WidthPx:         int(image.WidthPx),
		HeightPx:        int(image.HeightPx),
		Seed:            image.Seed,
		SizeBytes:       image.SizeBytes,
		SHA256:          image.Sha256,
		ContentFiltered: image.FinishReason == darkroomv1.GenerationEvent_FINISH_REASON_CONTENT_FILTERED,
		stream:          stream,
		hash:            sha256.New(),
	}
}

// Read is io.Reader's.
func (i *Image) Read(buffer []byte) (int, error) {
	if len(buffer) == 0 {
		return 0, nil
	}
	for len(i.chunk) == 0 {
		if i.err == nil {
			i.err = i.advance()
		}
		if i.err != nil {
			return 0, i.err
		}
	}
	count := copy(buffer, i.chunk)
	i.chunk = i.chunk[count:]
	return count, nil
}

// advance gets the next chunk, or io.EOF when the image is whole.
func (i *Image) advance() error {
	if i.readBytes == i.SizeBytes {
		if !i.ContentFiltered && !bytes.Equal(i.hash.Sum(nil), i.SHA256) {
			return i.stream.fail(i.stream.corrupt("image %d does not match its SHA-256", i.ImageIndex))
		}
		return io.EOF
	}
	message, err := i.stream.receive()
	if err == io.EOF {
		err = i.cutOff()
	}
	if err != nil {
		return i.stream.fail(err)
	}
	if message.GetEvent() == nil {
		return nil // an event that this client does not know
	}
	chunk := message.GetChunk()
	if chunk == nil || int(chunk.ImageIndex) != i.ImageIndex {
		return i.stream.fail(i.cutOff())
	}
	return i.take(chunk)
}

func (i *Image) take(chunk *darkroomv1.GenerationEvent_Chunk) error {
	if chunk.OffsetBytes != i.readBytes {
		what := "missing"
		if chunk.OffsetBytes < i.readBytes {
			what = "doubled"
		}
		return i.stream.fail(i.stream.corrupt("bytes of image %d are %s: offset %d instead of %d",
			i.ImageIndex, what, chunk.OffsetBytes, i.readBytes))
	}
	i.readBytes += int64(len(chunk.Content))
	if i.readBytes > i.SizeBytes {
		return i.stream.fail(i.stream.corrupt("image %d is longer than announced", i.ImageIndex))
	}
	i.hash.Write(chunk.Content)
	i.chunk = chunk.Content
	return nil
}

func (i *Image) cutOff() *Error {
	return i.stream.corrupt("image %d has %d of the %d bytes announced", i.ImageIndex, i.readBytes, i.SizeBytes)
}
