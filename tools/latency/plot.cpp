// SPDX-License-Identifier: MIT
// Plots without a plotting program: SVG by hand, and a page of HTML that has everything in it.
#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "report.hpp"

namespace latency {

namespace {

constexpr double width = 760, height = 380;
constexpr double left = 80, right = 36, top = 40, bottom = 40;
constexpr const char* colours[] = {"#1f5fa8", "#c2491d", "#3a7d34", "#7a4fa3"};

__attribute__((format(printf, 2, 3))) void add(std::string& out, const char* format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)std::vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    out += line;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char letter : text) {
        if (letter == '<') out += "&lt;";
        else if (letter == '>') out += "&gt;";
        else if (letter == '&') out += "&amp;";
        else if (letter == '"') out += "&quot;";
        else if (static_cast<unsigned char>(letter) < 0x20 && letter != '\n') out += ' ';
        else out += letter;
    }
    return out;
}

// A plot's axes: x as its user says, y logarithmic, in microseconds.
class Axes {
  public:
    Axes(double x_min, double x_max, double y_min, double y_max)
        : x_min_(x_min), x_max_(std::max(x_max, x_min + 1e-9)),
          decade_min_(std::floor(std::log10(std::max(y_min, 1e-3)))),
          decade_max_(std::max(std::ceil(std::log10(std::max(y_max, 1e-3))), decade_min_ + 1)) {}

    double x(double value) const {
        return left + (value - x_min_) / (x_max_ - x_min_) * (width - left - right);
    }
    double y(double us) const {
        const double decade = std::log10(std::max(us, std::pow(10, decade_min_)));
        const double share = (decade - decade_min_) / (decade_max_ - decade_min_);
        return height - bottom - share * (height - top - bottom);
    }
    void draw(std::string& out) const {
        for (double decade = decade_min_; decade <= decade_max_; ++decade) {
            const double us = std::pow(10, decade);
            add(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='grid'/>", left, y(us),
                width - right, y(us));
            add(out, "<text x='%.1f' y='%.1f' text-anchor='end'>%s</text>\n", left - 8, y(us) + 4,
                time_text(us * 1e3).c_str());
        }
    }
    void tick(std::string& out, double at, const std::string& label) const {
        add(out, "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' class='grid'/>", x(at), top, x(at),
            height - bottom);
        add(out, "<text x='%.1f' y='%.1f' text-anchor='middle'>%s</text>\n", x(at),
            height - bottom + 18, label.c_str());
    }

  private:
    double x_min_, x_max_, decade_min_, decade_max_;
};

void begin(std::string& out, const char* title) {
    add(out,
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' width='%.0f' "
        "height='%.0f' role='img'>\n<title>%s</title>\n",
        width, height, width, height, title);
    out +=
        "<style>text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd;stroke-width:1}"
        ".curve{fill:none;stroke-width:1.8}</style>\n";
    add(out, "<rect width='%.0f' height='%.0f' fill='#fff'/>\n", width, height);
}

void legend(std::string& out, std::size_t index, const std::string& name) {
    const double x = left + 250 * static_cast<double>(index);
    add(out, "<rect x='%.1f' y='18' width='14' height='4' fill='%s'/>", x, colours[index % 4]);
    add(out, "<text x='%.1f' y='24'>", x + 20);
    out += escaped(name) + "</text>\n";
}

// The axis of percentiles: each step of one is ten times fewer messages beyond.
double nines(double share) { return -std::log10(std::max(1 - share, 1e-12)); }

void draw_curve(std::string& out, const Axes& axes, const Curve& curve, double nines_max,
                std::size_t index) {
    add(out, "<polyline class='curve' stroke='%s' points='", colours[index % 4]);
    for (const Point& point : curve.points) {
        add(out, "%.1f,%.1f ", axes.x(std::min(nines(point.share), nines_max)), axes.y(point.us));
    }
    out += "'/>\n";
    legend(out, index, curve.name);
}

std::string windows_svg(const Outcome& outcome) {
    std::string out;
    double lowest = 1e300, highest = 1e-3;
    const double points[] = {50, 99, 100};
    for (const Window& window : outcome.windows) {
        if (window.latencies.count() == 0) continue;
        lowest = std::min(lowest, static_cast<double>(window.latencies.percentile(50)) * 1e-3);
        highest = std::max(highest, static_cast<double>(window.latencies.max()) * 1e-3);
    }
    const double end = static_cast<double>(outcome.plan.duration.count()) * 1e-9;
    const Axes axes(0, end, std::min(lowest, highest), highest);
    begin(out, "latency over time");
    axes.draw(out);
    for (int step = 0; step <= 5; ++step) {
        char label[32];
        (void)std::snprintf(label, sizeof label, "%.3g s", end * step / 5);
        axes.tick(out, end * step / 5, label);
    }
    for (std::size_t index = 0; index < 3; ++index) {
        add(out, "<polyline class='curve' stroke='%s' points='", colours[index]);
        for (const Window& window : outcome.windows) {
            if (window.latencies.count() == 0) continue;
            add(out, "%.1f,%.1f ", axes.x(window.start_s),
                axes.y(static_cast<double>(window.latencies.percentile(points[index])) * 1e-3));
        }
        out += "'/>\n";
        legend(out, index, index == 2 ? "max" : percentile_name(points[index]));
    }
    return out + "</svg>\n";
}

std::string page(const std::string& title, const std::string& body) {
    return "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>" + escaped(title) +
           "</title>\n<style>body{font:15px/1.5 sans-serif;max-width:800px;margin:2em auto;"
           "padding:0 1em;color:#222}pre{background:#f5f5f5;padding:1em;overflow:auto}"
           "svg{max-width:100%;height:auto}h1{font-size:1.4em}h2{font-size:1.1em}</style>"
           "</head><body>\n<h1>" +
           escaped(title) + "</h1>\n" + body + "</body></html>\n";
}

}  // namespace

std::string svg_of(const std::vector<Curve>& curves) {
    double lowest = 1e300, highest = 1e-3, most = 1;
    for (const Curve& curve : curves) {
        for (const Point& point : curve.points) {
            lowest = std::min(lowest, point.us);
            highest = std::max(highest, point.us);
            if (point.share < 1) most = std::max(most, nines(point.share));
        }
    }
    most = std::min(std::ceil(most), 9.0);
    const Axes axes(0, most, std::min(lowest, highest), highest);
    std::string out;
    begin(out, "latency by percentile");
    axes.draw(out);
    for (int step = 0; step <= static_cast<int>(most); ++step) {
        char label[32];
        (void)std::snprintf(label, sizeof label, "%.10g %%", 100 - 100 * std::pow(10, -step));
        axes.tick(out, step, label);
    }
    for (std::size_t index = 0; index < curves.size(); ++index) {
        draw_curve(out, axes, curves[index], most, index);
    }
    return out + "</svg>\n";
}

std::string html_of(const Outcome& outcome) {
    const bool closed = outcome.plan.closed;
    std::vector<Curve> curves;
    curves.push_back(
        curve_of(outcome.intended, closed ? "from sending" : "from the intended time (headline)"));
    if (!closed) curves.push_back(curve_of(outcome.sent, "from sending"));
    const std::string name = "whorl-latency: " + outcome.plan.target.text;
    return page(name, "<pre>" + escaped(text_of(outcome)) +
                          "</pre>\n<h2>Latency by percentile</h2>\n" + svg_of(curves) +
                          "<h2>Latency over time</h2>\n" + windows_svg(outcome));
}

std::string html_of_comparison(const Curve& before, const Curve& after) {
    return page("whorl-latency: comparison", "<pre>" + escaped(compare_text(before, after)) +
                                                 "</pre>\n<h2>Latency by percentile</h2>\n" +
                                                 svg_of({before, after}));
}

}  // namespace latency
