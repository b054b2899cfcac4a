# frozen_string_literal: true

# Calls Darkroom by the generated code alone:
#
#   ruby -I GENERATED clients/ruby/darkroom.rb generate ADDRESS PROMPT OUT_FILE
#   ruby -I GENERATED clients/ruby/darkroom.rb conformance ADDRESS CASES OUT_FOLDER

require "darkroom/v1/image_service_services_pb"
require "darkroom/v1/model_service_services_pb"
require "digest"
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "google/rpc/status_pb"
require "json"

ImageService = Darkroom::V1::ImageService
ModelService = Darkroom::V1::ModelService
# A port that nothing listens on.
NOBODY = "127.0.0.1:1"

# Yields the name of each event of a stream and what it carries; an image comes whole, with its file.
def each_event(responses)
  announced = nil
  content = +""
  completed = false
  responses.each do |response|
    kind = response.event.event
    value = kind && response.event.public_send(kind)
    case kind
    when nil then next # an event that this program does not know
    when :image
      raise "an image has fewer bytes than announced" if announced

      announced, content = value, +""
    when :chunk
      raise "bytes of an image that was not announced" unless value.image_index == announced&.image_index
      raise "bytes are missing or doubled" unless value.offset_bytes == content.bytesize

      content << value.content
    else
      completed = kind == :completed
      yield kind, value, nil
    end
    next unless announced && content.bytesize >= announced.size_bytes

    check announced, content
    yield :image, announced, content
    announced = nil
  end
  raise "the stream ended early" if announced || !completed
end

def check(image, content)
  # A content filter may withhold an image: there is nothing to check then.
  return if image.finish_reason == :FINISH_REASON_CONTENT_FILTERED

  raise "an image does not match its SHA-256" unless Digest::SHA256.digest(content) == image.sha256
end

# Every model of the server, page by page.
def each_model(stub, **options)
  token = ""
  loop do
    page = stub.list_models(Darkroom::V1::ListModelsRequest.new(page_token: token), **options)
    page.models.each { |model| yield model }
    token = page.next_page_token
    break if token.empty?
  end
end

# Draws one picture.
def generate(address, prompt, file)
  stub = ImageService::Stub.new(address, :this_channel_is_insecure)
  request = Darkroom::V1::GenerateRequest.new(prompt: prompt, seed: 7)
  each_event(stub.generate(request, deadline: Time.now + 300)) do |kind, value, content|
    puts "#{value.completed_step_count} of #{value.total_step_count} steps" if kind == :progress
    File.binwrite(file, content) if kind == :image
  end
rescue GRPC::BadStatus => e
  abort e.details
end

# The names that a case about models asks for.
def models_of(example, address)
  stub = ModelService::Stub.new(address, :this_channel_is_insecure)
  options = { deadline: Time.now + example.fetch("timeout_s", 60) }
  return enum_for(:each_model, stub, **options).map(&:name) if example["method"] == "ListModels"

  request = Darkroom::V1::GetModelRequest.decode_json(JSON.generate(example["request"]))
  [stub.get_model(request, **options).model.name]
end

# The call of a case: an operation that can be cancelled.
def call_of(example, address)
  stub = ImageService::Stub.new(address, :this_channel_is_insecure)
  type = example["method"] == "Fill" ? Darkroom::V1::FillRequest : Darkroom::V1::GenerateRequest
  request = type.decode_json(JSON.generate(example["request"]))
  options = { deadline: Time.now + example.fetch("timeout_s", 60), return_op: true }
  example["method"] == "Fill" ? stub.fill(request, **options) : stub.generate(request, **options)
end

def report_of(example, address, stem)
  report = { case: example["name"], events: [], warnings: [], images: [], models: [], cancelled: false }
  address = NOBODY if example["server"] == "none"
  return report.merge(models: models_of(example, address)) if example["method"].end_with?("Models", "Model")

  operation = call_of(example, address)
  each_event(operation.execute) do |kind, value, content|
    report[:events] << kind
    report[:warnings] = value.warnings.map { |each| "#{each.reason} #{each.field}" } if kind == :accepted
    if kind == :image
      File.binwrite("#{stem}-#{value.image_index}", content)
      report[:images] << announced_of(value)
    end
    operation.cancel if kind.to_s == example["cancel_after"]
  end
  report
rescue GRPC::Cancelled
  report.merge(cancelled: true)
rescue GRPC::BadStatus => e
  report.merge(error: error_of(e))
end

def announced_of(image)
  { image_index: image.image_index, seed: image.seed.to_s, width_px: image.width_px,
    height_px: image.height_px, media_type: image.media_type }
end

def error_of(failed)
  details = (failed.to_rpc_status&.details || []).to_a
  unpacked = ->(type) { details.find { |any| any.is(type) }&.unpack(type) }
  code = GRPC::Core::StatusCodes.constants.find { |name| GRPC::Core::StatusCodes.const_get(name) == failed.code }
  bad = unpacked.call(Google::Rpc::BadRequest)
  { code: code, reason: unpacked.call(Google::Rpc::ErrorInfo)&.reason.to_s,
    fields: bad ? bad.field_violations.map(&:field) : [],
    has_retry_delay: !unpacked.call(Google::Rpc::RetryInfo).nil? }
end

def conformance(address, file, folder)
  $stdout.sync = true
  JSON.parse(File.read(file))["cases"].each_with_index do |example, index|
    puts JSON.generate(report_of(example, address, "#{folder}/#{index}"))
  end
end

command, *arguments = ARGV
unless %w[generate conformance].include?(command) && arguments.size == 3
  abort "generate ADDRESS PROMPT OUT_FILE, or conformance ADDRESS CASES OUT_FOLDER"
end
send(command, *arguments)
