// The cases of clients/conformance.
#pragma once

#include <string>

// Runs every case against a server and prints its report; images go to `folder`.
void conformance(const std::string& address, const std::string& file, const std::string& folder);
