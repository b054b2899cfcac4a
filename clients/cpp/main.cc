// Calls Darkroom by the generated code alone:
//
//   darkroom generate ADDRESS PROMPT OUT_FILE
//   darkroom conformance ADDRESS CASES OUT_FOLDER

#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include "call.h"
#include "conformance.h"

namespace {

// Draws one picture; whether that went well.
bool generate(const std::string& address, const std::string& prompt, const std::string& file) {
  darkroom::v1::GenerateRequest request;
  request.set_prompt(prompt);
  request.set_seed(7);
  grpc::ClientContext context;
  const auto on_event = [&](const Event& event, const std::string& content) {
    if (event.has_progress()) {
      std::cout << event.progress().completed_step_count() << " of "
                << event.progress().total_step_count() << " steps\n";
    }
    if (event.has_image() && !(std::ofstream(file, std::ios::binary) << content << std::flush)) {
      throw std::runtime_error(file + " cannot be written");
    }
  };
  const grpc::Status status = Server(address).generate(context, request, on_event);
  if (!status.ok()) std::cerr << status.error_message() << "\n";
  return status.ok();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc == 5 ? argv[1] : "";
  try {
    if (command == "generate") return generate(argv[2], argv[3], argv[4]) ? 0 : 1;
    if (command == "conformance") {
      conformance(argv[2], argv[3], argv[4]);
      return 0;
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  std::cerr << "generate ADDRESS PROMPT OUT_FILE, or conformance ADDRESS CASES OUT_FOLDER\n";
  return 2;
}
