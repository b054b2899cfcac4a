package darkroom

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind is what a call failed of. errors.Is tells whether an error is of a kind:
// errors.Is(err, darkroom.Unavailable).
type Kind string

// The kinds.
const (
	// InvalidRequest: the service will not take this request as it is.
	InvalidRequest Kind = "InvalidRequest"
	// ModelNotFound: the service has no such model, or no such version of it.
	ModelNotFound Kind = "ModelNotFound"
	// ModelUnavailable: the model is unloaded or could not be loaded; trying again does not help.
	ModelUnavailable Kind = "ModelUnavailable"
	// Unauthenticated: no API key, or one that the service does not know.
	Unauthenticated Kind = "Unauthenticated"
	// PermissionDenied: the API key does not allow this call.
	PermissionDenied Kind = "PermissionDenied"
	// DeadlineExceeded: the context's deadline passed.
	DeadlineExceeded Kind = "DeadlineExceeded"
	// Cancelled: the call was cancelled, by its context or otherwise.
	Cancelled Kind = "Cancelled"
	// Unavailable: the server cannot be reached, is stopping, or has no room.
	Unavailable Kind = "Unavailable"
	// QueueFull: the server has no room for another request now. Also Unavailable.
	QueueFull Kind = "QueueFull"
	// RateLimited: this caller's key has had as many requests as it may have, for now.
	RateLimited Kind = "RateLimited"
	// InsufficientCredits: this caller's key has fewer credits left than the request takes.
	InsufficientCredits Kind = "InsufficientCredits"
	// ServerError: the service failed, not the request; name RequestID when you report it.
	ServerError Kind = "ServerError"
	// CorruptImage: the stream did not carry what it announced.
	CorruptImage Kind = "CorruptImage"
)

// Error is the kind's name.
func (k Kind) Error() string { return string(k) }

// FieldViolation is one field of the request that is wrong, by its path in the request message.
type FieldViolation struct {
	Field       string
	Description string
}

// Error is what every failed call returns. Its text is one line fit for a person.
type Error struct {
	Kind Kind
	Code codes.Code
	// Message is the service's or the transport's.
	Message string
	// Reason is the service's stable word for the cause, and empty where the error is not the service's.
	Reason string
	// RequestID finds the call in the service's logs.
	RequestID string
	// Violations are the fields that are wrong.
	Violations []FieldViolation
	// RetryAfter is the service's advice, nil without one.
	RetryAfter *time.Duration

	cause error
}

// Error is one line: what is wrong and, if there is advice, when to try again.
func (e *Error) Error() string {
	text := e.Message
	if len(e.Violations) > 0 {
		named := make([]string, len(e.Violations))
		for i, violation := range e.Violations {
			named[i] = violation.Field + ": " + violation.Description
		}
		text = strings.Join(named, "; ")
	}
	if e.RetryAfter != nil {
		text += fmt.Sprintf(" (try again in %v)", *e.RetryAfter)
	}
	return strings.Join(strings.Fields(text), " ")
}

// Is makes errors.Is know kinds.
func (e *Error) Is(target error) bool {
	return target == e.Kind || (target == Unavailable && e.Kind == QueueFull)
}

// Unwrap gives context.Canceled or context.DeadlineExceeded where the context ended the call.
func (e *Error) Unwrap() error { return e.cause }

func corrupt(requestID, format string, values ...interface{}) *Error {
	return &Error{Kind: CorruptImage, Code: codes.DataLoss, Message: fmt.Sprintf(format, values...), RequestID: requestID}
}

// errorOf says what the status of a failed call means; nil stays nil.
func errorOf(ctx context.Context, err error, address, requestID string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		// Also while waiting for another try, when the call's own status is another.
		err = status.FromContextError(ctx.Err()).Err()
	}
	failed := status.Convert(err)
	made := &Error{Code: failed.Code(), Message: failed.Message(), RequestID: requestID, cause: ctx.Err()}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			made.Reason = detail.Reason
		case *errdetails.BadRequest:
			for _, each := range detail.FieldViolations {
				made.Violations = append(made.Violations, FieldViolation{each.Field, each.Description})
			}
		case *errdetails.RetryInfo:
			delay := detail.RetryDelay.AsDuration()
			made.RetryAfter = &delay
		case *errdetails.RequestInfo:
			made.RequestID = detail.RequestId
		}
	}
	made.Kind = kindOf(made)
	if made.Kind == Unavailable && made.Reason == "" {
		// Without details the status is the transport's own: say which server it is about.
		made.Message = address + " is not available: " + made.Message
	}
	return made
}

func kindOf(failed *Error) Kind {
	switch failed.Code {
	case codes.Unavailable:
		if failed.Reason == "QUEUE_FULL" {
			return QueueFull
		}
		return Unavailable
	case codes.ResourceExhausted:
		if failed.Reason == "OUT_OF_DEVICE_MEMORY" {
			return ServerError
		}
		if failed.Reason == "INSUFFICIENT_CREDITS" {
			return InsufficientCredits
		}
		if failed.Reason != "" || failed.RetryAfter != nil {
			return RateLimited
		}
		// Without details: the transport's word for a message over the size limit.
		return InvalidRequest
	case codes.InvalidArgument, codes.OutOfRange:
		return InvalidRequest
	case codes.NotFound:
		return ModelNotFound
	case codes.FailedPrecondition:
		return ModelUnavailable
	case codes.Unauthenticated:
		return Unauthenticated
	case codes.PermissionDenied:
		return PermissionDenied
	case codes.DeadlineExceeded:
		return DeadlineExceeded
	case codes.Canceled:
		return Cancelled
	}
	return ServerError
}
