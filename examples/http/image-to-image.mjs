const url = "http://127.0.0.1:8000/api/v1/images/generation";
const headers = {
  "Content-Type": "application/json",
  "Authorization": "Bearer YOUR_KEY",
};
const data = {
  "model": "black-forest-labs/FLUX.1-Fill-dev",
  "prompt": "a red baseball cap",
  "num_steps": 40,
  "guidance_scale": 4.5,
  "width": 1024,
  "height": 1024,
  "image": "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCABAAEADASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAAcCBv/EACMQAQABAQcFAQAAAAAAAAAAAAABAgMREzFRcZEzUnKSsSH/xAAZAQEAAwEBAAAAAAAAAAAAAAAAAQMFBAb/xAAjEQACAAQGAwEAAAAAAAAAAAAAEQEDBRICEyExQWEEFCJR/9oADAMBAAIRAxEAPwDqgHkjvAAAAAAAAAAXxrHJOU7JtMzfP7OerWplM9676ttXD3fcPwonz8paNlJvjWORNb51nlSLPpUeMfCp0v0YYY3XXPhbLuIkT816JGgGSXgAAnKdk1nOd1KZw6Oyn1hrUupw8G54XcuVs+uyifIzVqkTdSLPpUeMfDDs+yj1hpNUqkPOhhhDCk+XuuiJEjKerYAZB0AAAAAAAAAB/9k=",
  "mask": "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/wAALCABAAEABAREA/8QAFwABAQEBAAAAAAAAAAAAAAAAAAUGB//EACoQAAEDAgMGBwEAAAAAAAAAAAABAgQFBgMREhYhNlSy0SJBUXKCkqNh/9oACAEBAAA/AMYAAAAAAAADc25b9MnUWPIkxteK/VqdrcmeTlTyUp7KUbk/0d3GylG5P9HdyfX7dpcOjSZEeNoxWNRWu1uXLenqpgwAdMtHhyL8upS0CTdPDsz2p1IcvAB0y0eHIvy6lLQJN08OzPanUhy8AG8tuu02HRI+BJlNw8VurNqtXd4lX0Km01H55n1d2G01H55n1d2JtwV6mS6LKwI8tr8V7URrUau/en8MCAAAAAAAAD//2Q=="
};

fetch(url, { method: "POST", headers, body: JSON.stringify(data) })
  .then((response) => response.json())
  .then((data) => console.log(JSON.stringify(data, null, 2)))
  .catch((error) => console.error("Error:", error));
