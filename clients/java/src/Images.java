import darkroom.v1.FillRequest;
import darkroom.v1.GenerateRequest;
import darkroom.v1.GenerationEvent;
import darkroom.v1.ImageServiceGrpc;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** The image calls of one server, with images put together and checked. */
final class Images implements AutoCloseable {
  /** Gets every event but chunks; `content` is the whole file of an image, and empty otherwise. */
  interface OnEvent {
    /** Whether the call is to go on; otherwise it is cancelled. */
    boolean take(GenerationEvent event, byte[] content) throws IOException;
  }

  private final ManagedChannel channel;
  private final ImageServiceGrpc.ImageServiceBlockingStub stub;

  Images(String address) {
    channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    stub = ImageServiceGrpc.newBlockingStub(channel);
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  /** The events of one Generate. Throws StatusRuntimeException when the service refuses or fails. */
  void generate(GenerateRequest request, double timeoutS, OnEvent onEvent) throws IOException {
    read(within(timeoutS)::generate, request, response -> response.getEvent(), onEvent);
  }

  /** The events of one Fill; otherwise as generate. */
  void fill(FillRequest request, double timeoutS, OnEvent onEvent) throws IOException {
    read(within(timeoutS)::fill, request, response -> response.getEvent(), onEvent);
  }

  private ImageServiceGrpc.ImageServiceBlockingStub within(double timeoutS) {
    return stub.withDeadlineAfter((long) (timeoutS * 1000), TimeUnit.MILLISECONDS);
  }

  private static <Q, R> void read(
      Function<Q, Iterator<R>> method, Q request, Function<R, GenerationEvent> eventOf, OnEvent onEvent)
      throws IOException {
    Context.CancellableContext context = Context.current().withCancellation();
    Context before = context.attach();
    try {
      Iterator<R> responses = method.apply(request);
      GenerationEvent announced = null;
      ByteArrayOutputStream content = new ByteArrayOutputStream();
      while (responses.hasNext()) {
        GenerationEvent event = eventOf.apply(responses.next());
        boolean goOn = true;
        if (event.hasImage()) {
          announced = event;
          content.reset();
        } else if (event.hasChunk()) {
          if (event.getChunk().getOffsetBytes() != content.size()) {
            throw new IOException("bytes are missing or doubled");
          }
          event.getChunk().getContent().writeTo(content);
        } else {
          goOn = onEvent.take(event, new byte[0]);
        }
        if (announced != null && content.size() >= announced.getImage().getSizeBytes()) {
          check(announced.getImage(), content.toByteArray());
          goOn = onEvent.take(announced, content.toByteArray());
          announced = null;
        }
        if (!goOn) {
          context.cancel(null);
        }
      }
    } finally {
      context.cancel(null);
      context.detach(before);
    }
  }

  private static void check(GenerationEvent.Image image, byte[] content) throws IOException {
    // A content filter may withhold an image: there is nothing to check then.
    if (image.getFinishReason() == GenerationEvent.FinishReason.FINISH_REASON_CONTENT_FILTERED) {
      return;
    }
    try {
      byte[] digest = MessageDigest.getInstance("SHA-256").digest(content);
      if (!MessageDigest.isEqual(digest, image.getSha256().toByteArray())) {
        throw new IOException("an image does not match its SHA-256");
      }
    } catch (NoSuchAlgorithmException impossible) {
      throw new AssertionError(impossible);
    }
  }
}
