// Writes the translation unit that compares our declarations with a library's own header.
import { applies } from './abi-declarations.mjs';

/** Ours and theirs are called alike: `Same<ours, theirs>` is about the binary interface, not about names. */
const comparison = `
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace check {

template <typename T>
constexpr std::string_view nameOf() {
  std::string_view text = __PRETTY_FUNCTION__;
  text = text.substr(text.find("T = ") + 4);
  text = text.substr(0, text.find_first_of(";]"));
  const size_t colon = text.rfind(':');
  return colon == std::string_view::npos ? text : text.substr(colon + 1);
}

template <typename T>
concept Complete = requires { sizeof(T); };

// Structures that are one by our own account; their fields are compared one by one.
template <typename Ours, typename Theirs>
inline constexpr bool kPaired = false;

template <typename Ours, typename Theirs>
struct Same {
  static constexpr bool check() {
    if constexpr (std::is_same_v<Ours, Theirs> || kPaired<Ours, Theirs>) {
      return true;
    } else if constexpr (std::is_class_v<Ours> && std::is_class_v<Theirs>) {
      if constexpr (Complete<Ours> && Complete<Theirs>) return sizeof(Ours) == sizeof(Theirs);
      return nameOf<Ours>() == nameOf<Theirs>();
    } else if constexpr (std::is_enum_v<Ours> || std::is_enum_v<Theirs>) {
      return sizeof(Ours) == sizeof(Theirs) && (std::is_integral_v<Ours> || std::is_enum_v<Ours>) &&
             (std::is_integral_v<Theirs> || std::is_enum_v<Theirs>);
    } else if constexpr (std::is_integral_v<Ours> && std::is_integral_v<Theirs>) {
      return sizeof(Ours) == sizeof(Theirs) && std::is_signed_v<Ours> == std::is_signed_v<Theirs>;
    } else {
      return false;
    }
  }
  static constexpr bool value = check();
};

// A handle may be void* to us or to them. What they forgot to call const we may call so.
template <typename Ours, typename Theirs>
struct Same<Ours*, Theirs*> {
  using Left = std::remove_const_t<Ours>;
  using Right = std::remove_const_t<Theirs>;
  static constexpr bool kConst = std::is_const_v<Ours> || !std::is_const_v<Theirs>;
  static constexpr bool kHandle = (std::is_void_v<Left> && std::is_class_v<Right>) ||
                                  (std::is_class_v<Left> && std::is_void_v<Right>);
  static constexpr bool value = kConst && (kHandle || Same<Left, Right>::value);
};

template <typename R, typename... P, typename S, typename... Q>
struct Same<R(P...), S(Q...)> {
  static constexpr bool check() {
    if constexpr (sizeof...(P) != sizeof...(Q)) {
      return false;
    } else {
      return Same<R, S>::value && (Same<P, Q>::value && ...);
    }
  }
  static constexpr bool value = check();
};
template <typename R, typename... P, typename S, typename... Q>
struct Same<R(P...), S(Q...) noexcept> : Same<R(P...), S(Q...)> {};

}  // namespace check
`;

/**
 * `target`: the library's header and how it is included; `ours`: declarations of one of our headers, its file
 * and namespace. Returns the text, and which of the declarations it compares.
 */
export function compareUnit(target, ours) {
  const compared = ours.declarations.filter((entry) => applies(entry, target.version));
  const name = (entry) => `${ours.space}::${entry.name}`;
  const lines = [];
  for (const entry of compared) {
    const say = `"${entry.name} differs from ${entry.theirs}"`;
    switch (entry.kind) {
      case 'type':
        // RCCL and HIP call some otherwise: then functions show it.
        lines.push(`static_assert(check::Same<${name(entry)}, ::${entry.theirs}>::value, ${say});`);
        break;
      case 'constant':
        lines.push(`static_assert(${name(entry)} == (decltype(${name(entry)}))(${entry.theirs}), ${say});`);
        break;
      case 'struct':
        lines.push(`static_assert(${sizeOf(entry, ours)} == sizeof(::${entry.theirs}), ${say});`);
        break;
      case 'field': {
        const [mine, real] = [`${ours.space}::${entry.struct.name}`, `::${entry.struct.theirs}`];
        const member = (type) => `std::remove_extent_t<decltype(${type}::${entry.name})>`;
        lines.push(
          `static_assert(offsetof(${mine}, ${entry.name}) == offsetof(${real}, ${entry.name}), ${say});`,
          `static_assert(check::Same<${member(mine)}, ${member(real)}>::value, ${say});`,
        );
        break;
      }
      default:
        lines.push(
          `static_assert(check::Same<${ours.space}::fn::${entry.name}, decltype(::${entry.theirs})>::value, ${say});`,
        );
    }
  }
  const pairs = compared
    .filter((entry) => entry.kind === 'struct')
    .map(
      (entry) =>
        `template <>\ninline constexpr bool check::kPaired<${name(entry)}, ::${entry.theirs}> = true;`,
    );
  const text = [
    ...ours.includes.map((file) => `#include "${file}"`),
    ...target.includes.map((file) => `#include <${file}>`),
    comparison,
    ...pairs,
    ...lines,
    ours.more?.(target, compared) ?? '',
    '',
  ].join('\n');
  return { text, compared };
}

/** NCCL's configuration is as long as the version says. */
function sizeOf(entry, ours) {
  return ours.sizes?.[entry.name] ?? `sizeof(${ours.space}::${entry.name})`;
}
